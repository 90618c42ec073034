"""The command line: ``graycat``."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from graycat import __version__
from graycat.cli.text import say
from graycat.errors import BrokerUnavailable, SettingsError
from graycat.gctuning import without_collections
from graycat.settings.home import keep_private


class LazyGroup(click.Group):
    """Imports a command only when it is run: ``web`` must import nothing before gevent patches the standard library."""

    NAMES = (
        "acl",
        "backup",
        "batch",
        "beat",
        "broker",
        "edge-config",
        "engine",
        "exporter",
        "flower",
        "logs",
        "models",
        "queue",
        "restore",
        "scale-hint",
        "schedule",
        "status",
        "systemd",
        "task",
        "tokens",
        "up",
        "web",
        "worker",
    )

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands; each is a module of this package, with _ for -."""
        return list(self.NAMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name."""
        if cmd_name not in self.NAMES:
            return None
        with without_collections():
            name = cmd_name.replace("-", "_")
            module = import_module(f"graycat.cli.{name}")
        command: click.Command = getattr(module, name)
        return command


@click.command(cls=LazyGroup)
@click.version_option(__version__)
def cli() -> None:
    """One HTTP address for text and image generation on many GPU machines."""


def main() -> None:
    """Run the command line.

    An invalid setting, an absent broker and a file or folder that cannot be used are one line, without a traceback.
    """
    keep_private()
    try:
        cli()
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
