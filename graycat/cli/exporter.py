"""``graycat exporter``: danihodovic's celery-exporter, from an environment of its own."""

from __future__ import annotations

import os
import sys

import click

from graycat.queue import topology
from graycat.settings import Settings, engine_environment, variable

#: Its distribution for pip has no command; read so, its options come from variables, which other users cannot see.
START = "from src.cli import cli; cli(auto_envvar_prefix='CE')"
#: Seconds between two tries to reach the broker. Without any it would end with its first outage.
RETRY_S = 2


@click.command()
def exporter() -> None:
    """Serve Celery's metrics under the names that published dashboards use (docs/monitoring.md)."""
    settings = Settings.from_env()
    python = settings.exporter_python
    if not python.is_file():
        name = variable("exporter_python")
        click.echo(f"graycat: there is no {python}: run make exporter in the checkout, or set {name}", err=True)
        sys.exit(2)
    env = {name: value for name, value in engine_environment().items() if not name.startswith("CE_")}
    os.execve(python, [str(python), "-c", START], env | options(settings))  # noqa: S606 (no shell)


def options(settings: Settings) -> dict[str, str]:
    """Return its options, as variables."""
    return {
        "CE_BROKER_URL": settings.broker_url.replace("unix://", "redis+socket://", 1),
        "CE_HOST": "127.0.0.1",
        "CE_PORT": str(settings.exporter_port),
        "CE_RETRY_INTERVAL": str(RETRY_S),
        # So that their lengths are told while nobody serves them.
        "CE_QUEUES": ",".join(topology.QUEUES),
        "CE_ACCEPT_CONTENT": "json",
        # Its log would else show the values in every traceback, the broker's password among them.
        "LOGURU_DIAGNOSE": "0",
        "LOGURU_BACKTRACE": "0",
        "PYTHONUNBUFFERED": "1",
    }
