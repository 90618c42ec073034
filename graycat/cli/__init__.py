"""The command line: ``graycat``."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from graycat import __version__
from graycat.errors import SettingsError


class LazyGroup(click.Group):
    """Imports a command when it is run: ``web`` must import nothing before gevent has patched the standard library."""

    NAMES = (
        "acl",
        "batch",
        "beat",
        "broker",
        "engine",
        "exporter",
        "flower",
        "logs",
        "models",
        "queue",
        "schedule",
        "status",
        "task",
        "tokens",
        "up",
        "web",
        "worker",
    )

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands; each is a module here."""
        return list(self.NAMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name."""
        if cmd_name not in self.NAMES:
            return None
        command: click.Command = getattr(import_module(f"graycat.cli.{cmd_name}"), cmd_name)
        return command


@click.command(cls=LazyGroup)
@click.version_option(__version__)
def cli() -> None:
    """One address in front of a fleet of GPU boxes."""


def main() -> None:
    """Run the command line; a setting that cannot be used is one line, not a traceback."""
    try:
        cli()
    except SettingsError as error:
        click.echo(f"graycat: {error}", err=True)
        sys.exit(2)
