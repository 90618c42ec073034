"""``graycat exporter``: danihodovic's celery-exporter, from a virtual environment of its own."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from graycat.errors import SettingsError
from graycat.queue import topology
from graycat.settings import Settings, engine_environment, variable
from graycat.settings.sentinel import SentinelAddress

#: The exporter's package has no command. Started so, it reads its options from variables, which other users cannot see.
START_CODE = "from src.cli import cli; cli(auto_envvar_prefix='CE')"
#: Seconds between two attempts to reach the broker. Without this the exporter would end at the first outage.
RETRY_INTERVAL_S = 2


@click.command()
def exporter() -> None:
    """Serve Celery's metrics.

    They have the names that published Grafana dashboards use. docs/monitoring.md says more.
    """
    settings = Settings.from_env()
    python = require_python(settings)
    env = {name: value for name, value in engine_environment().items() if not name.startswith("CE_")}
    os.execve(python, [str(python), "-c", START_CODE], env | exporter_options(settings))  # noqa: S606 (no shell)


def require_python(settings: Settings) -> Path:
    """Return the Python of the exporter's environment. Raises SettingsError if there is none."""
    python = settings.exporter_python
    if not python.is_file():
        raise SettingsError(
            f"there is no {python}: install celery-exporter in a virtual environment of its own (make exporter, in a "
            f"checkout, does), and name its Python with {variable('exporter_python')}=..."
        )
    return python


def exporter_options(settings: Settings) -> dict[str, str]:
    """Return the exporter's options, as environment variables."""
    return {
        **broker_options(settings),
        "CE_HOST": "127.0.0.1",
        "CE_PORT": str(settings.exporter_port),
        "CE_RETRY_INTERVAL": str(RETRY_INTERVAL_S),
        # So that their lengths are reported even while no worker consumes them.
        "CE_QUEUES": ",".join(topology.QUEUES),
        "CE_ACCEPT_CONTENT": "json",
        # Otherwise its log would show the values in every traceback, also the broker's password.
        "LOGURU_DIAGNOSE": "0",
        "LOGURU_BACKTRACE": "0",
        "PYTHONUNBUFFERED": "1",
    }


def broker_options(settings: Settings) -> dict[str, str]:
    """Return the options that say where the broker is, in the form that kombu's own transports read."""
    address = settings.sentinel
    if address is None:
        return {"CE_BROKER_URL": settings.broker_url.replace("unix://", "redis+socket://", 1)}
    sentinel_login: dict[str, str] = {}
    if address.sentinel_password:
        sentinel_login["password"] = address.sentinel_password
    if address.sentinel_username:
        sentinel_login["username"] = address.sentinel_username
    options = [f"master_name={address.master}"]
    if sentinel_login or address.tls:
        more = json.dumps(sentinel_login | _tls_of_sentinels(address), separators=(",", ":"))
        # Options are parted by blanks.
        options.append("sentinel_kwargs=" + more.replace(" ", r"\u0020"))
    found = {"CE_BROKER_URL": ";".join(address.urls), "CE_BROKER_TRANSPORT_OPTION": " ".join(options)}
    if address.tls:
        found["CE_BROKER_SSL_OPTION"] = " ".join(f"{name}={value}" for name, value in address.tls_options.items())
    return found


def _tls_of_sentinels(address: SentinelAddress) -> dict[str, Any]:
    if not address.tls:
        return {}
    return {"ssl": True, **address.tls_options}
