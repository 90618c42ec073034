"""The command line: ``graycat``."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from graycat import __version__
from graycat.cli.text import say
from graycat.errors import BrokerUnavailable, SettingsError
from graycat.gctuning import without_collections

#: Where a context has the name of the command.
COMMAND = "graycat.command"
#: The exit status after Ctrl-C.
EXIT_INTERRUPTED = 130

#: Every command, as ``graycat --help`` lists them. Each is a module of this package, with _ for -.
SECTIONS = {
    "Start and watch": {
        "up": "Start everything on this machine; Ctrl-C stops it.",
        "status": "Show on one screen how it is doing, and what to do next.",
        "logs": "Show what an engine prints.",
        "models": "Download, list, check and remove models.",
    },
    "Ask for texts and images": {
        "task": "Submit one task, watch it, cancel it.",
        "batch": "Make many images while nothing else waits.",
        "schedule": "Make batches at set times.",
    },
    "Run it for others": {
        "tokens": "Create and revoke API tokens; show who used what.",
        "queue": "Pause and resume a queue.",
        "worker": "Pause, resume or drain a worker, or run one.",
        "scale-hint": "Show how many workers there should be.",
        "backup": "Write everything that the broker holds to a file.",
        "restore": "Read such a file into a broker.",
    },
    "Set up machines": {
        "systemd": "Make units for systemd.",
        "edge-config": "Make the configuration of a proxy with TLS.",
        "acl": "Create the broker's user of a GPU machine.",
        "completion": "Have your shell complete these commands.",
    },
    "One process by itself (up runs them all)": {
        "web": "The HTTP server.",
        "broker": "The embedded broker.",
        "engine": "The text engine or the image engine.",
        "beat": "The clock of the schedules.",
        "flower": "Flower, a page of workers and tasks.",
        "exporter": "Celery's metrics for published dashboards.",
    },
}


class LazyGroup(click.Group):
    """Imports a command only when it is run: ``web`` must import nothing before gevent patches the standard library."""

    NAMES = tuple(name for commands in SECTIONS.values() for name in commands)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order of the sections."""
        return list(self.NAMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name."""
        if cmd_name not in self.NAMES:
            return None
        ctx.meta[COMMAND] = cmd_name
        with without_collections():
            name = cmd_name.replace("-", "_")
            module = import_module(f"graycat.cli.{name}")
        command: click.Command = getattr(module, name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by section, without an import of any."""
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(list(commands.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands that a shell offers, without an import of any."""
        found = []
        for commands in SECTIONS.values():
            for name, text in commands.items():
                if name.startswith(incomplete):
                    found.append(CompletionItem(name, help=text))
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. Ctrl-C ends it without a word; it is how ``up`` ends, also while that still begins."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            # The terminal has shown ^C.
            say(err=True)
            raise click.exceptions.Exit(status_of_interrupt(ctx.meta.get(COMMAND, ""))) from None


def status_of_interrupt(command: str = "") -> int:
    """Return the exit status of a command that Ctrl-C has ended. For ``up`` that is no failure, also not for make."""
    return 0 if command == "up" else EXIT_INTERRUPTED


@click.command(cls=LazyGroup)
@click.version_option(__version__)
def cli() -> None:
    """One HTTP address for text and image generation on many GPU machines.

    Begin with 'graycat up'. It starts everything on this machine and prints an API token and a first request.
    'graycat COMMAND --help' explains a command.
    """


def main() -> None:
    """Run the command line.

    An invalid setting, an absent broker and a file or folder that cannot be used are one line, without a traceback.
    """
    try:
        # It takes most of the time until a command begins: Ctrl-C must find somebody who heeds it.
        from graycat.settings.home import keep_private

        keep_private()
        cli()
    except KeyboardInterrupt:
        sys.exit(status_of_interrupt(*sys.argv[1:2]))
    except SettingsError as error:
        say(f"graycat: {error}", err=True)
        sys.exit(2)
    except BrokerUnavailable:
        say("graycat: the broker cannot be used now, nothing was changed; try again in a moment", err=True)
        sys.exit(1)
    except OSError as error:
        if error.filename is None:
            # No file's: a fault of graycat's, perhaps.
            raise
        say(f"graycat: {error.filename}: {error.strerror}", err=True)
        sys.exit(1)
