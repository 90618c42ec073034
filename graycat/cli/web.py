"""``graycat web``: the API, under gunicorn."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import click
from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

from graycat import log
from graycat.errors import SettingsError, ShuttingDown
from graycat.gctuning import settle_memory
from graycat.settings import Settings

#: Streams one process may hold; each costs a greenlet, not a thread.
CONNECTIONS = 4000
#: Seconds before the end of a shutdown's grace in which requests that still wait are told.
LAST_WORDS_S = 0.5
#: Seconds that a connection is kept for the next request.
KEEPALIVE_S = 30


class PropagatingLogger(Logger):
    """gunicorn's own lines in graycat's form; requests are logged by the application, with their task."""

    def setup(self, cfg: Config) -> None:
        """Leave the handlers alone that ``graycat.log`` has set up, and let everything reach them."""
        self.error_log.propagate = True

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
            # Games and scripts ask again within seconds; an idle connection is a greenlet, 17 kB.
            "keepalive": KEEPALIVE_S,
            "graceful_timeout": int(settings.stop_grace_s),
            "logger_class": PropagatingLogger,
            "post_fork": end_when_told,
            "worker_exit": leave,
            "child_exit": forget_child,
            "post_worker_init": partial(begin_to_serve, settings.stop_grace_s - LAST_WORDS_S),
            # It would open a socket in the home directory.
            "control_socket_disable": True,
        }
        if settings.web_workers > 1:
            # So prometheus_client keeps what all processes count in files of this folder.
            options["raw_env"] = [f"PROMETHEUS_MULTIPROC_DIR={metrics_folder(settings)}"]
            options["on_starting"] = partial(empty_metrics, settings)
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Return the application; called in each worker process, after gevent has patched it."""
        from graycat.broker.client import check
        from graycat.web import create_app

        log.setup(self._settings)
        try:
            check(self._settings)
        except SettingsError as error:
            click.echo(f"graycat: {error}", err=True)
            # gunicorn then starts no other in its place.
            sys.exit(Arbiter.APP_LOAD_ERROR)
        return create_app(self._settings)


def metrics_folder(settings: Settings) -> Path:
    """Return the folder in which the web processes of one server keep their metrics together."""
    return settings.home.resolve() / "metrics" / f"web-{settings.port}"


def empty_metrics(settings: Settings, _server: object) -> None:
    """Have the web processes count from zero: who reads the counts knows that a start does so."""
    folder = metrics_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    for left_over in folder.glob("*.db"):
        left_over.unlink()


def forget_child(_server: object, worker: Worker) -> None:
    """Have what a child that is gone was doing no longer count as being done."""
    if worker.cfg.workers > 1:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)


def leave(_server: object, _worker: object) -> None:
    """End a child whose work is done, by the status that gunicorn has chosen, without taking the interpreter apart.

    The handlers of log lines go late in that, when gevent's locks no longer work: now and then that is a traceback.
    """
    chosen = sys.exception()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(chosen.code if isinstance(chosen, SystemExit) and isinstance(chosen.code, int) else 1)


def end_when_told(_server: object, _worker: object) -> None:
    """Have a new child end at SIGTERM; until it has its own handlers, it would swallow the signal by its parent's."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def begin_to_serve(patience_s: float, worker: Worker) -> None:
    """Prepare a new child for its requests."""
    settle_memory()
    answer_before_the_end(patience_s, worker)


def answer_before_the_end(patience_s: float, worker: Worker) -> None:
    """Have requests that still wait answered, just before gunicorn cuts them off in a shutdown."""

    def watch() -> None:
        while worker.alive:
            time.sleep(0.1)
        time.sleep(max(patience_s, 0))
        # Here, not above: it imports what gevent has to patch first.
        from graycat.web.services import services_of

        services_of(worker.wsgi).gateway.hub.end_all(ShuttingDown())

    threading.Thread(target=watch, name="last-words", daemon=True).start()


@click.command()
def web() -> None:
    """Serve the API on HOST:PORT."""
    settings = Settings.from_env()
    log.setup(settings)
    WebServer(settings).run()
