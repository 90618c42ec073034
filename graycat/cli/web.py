"""``graycat web``: the API, under gunicorn."""

from __future__ import annotations

from typing import Any

import click
from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.config import Config
from gunicorn.glogging import Logger

from graycat import log
from graycat.settings import Settings

#: Streams one process may hold; each costs a greenlet, not a thread.
CONNECTIONS = 4000


class PropagatingLogger(Logger):
    """gunicorn's own lines in graycat's form; requests are logged by the application, with their task."""

    def setup(self, cfg: Config) -> None:
        """Leave the handlers alone that ``graycat.log`` has set up."""

    def access(self, *_: Any) -> None:
        """Write nothing."""


class WebServer(BaseApplication):
    """gunicorn, configured by graycat's settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        """Hand our settings to gunicorn."""
        settings = self._settings
        options = {
            "bind": f"{settings.host}:{settings.port}",
            "workers": settings.web_workers,
            # One greenlet a client: streams are waiting, mostly.
            "worker_class": "gevent",
            "worker_connections": CONNECTIONS,
            "graceful_timeout": int(settings.stop_grace_s),
            "logger_class": PropagatingLogger,
            # It would open a socket in the home directory.
            "control_socket_disable": True,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Return the application; called in each worker process, after gevent has patched it."""
        from graycat.web import create_app

        log.setup(self._settings)
        return create_app(self._settings)


@click.command()
def web() -> None:
    """Serve the API on HOST:PORT."""
    settings = Settings.from_env()
    log.setup(settings)
    WebServer(settings).run()
