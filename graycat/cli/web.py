"""``graycat web``: serves the API with gunicorn."""

from __future__ import annotations

import atexit
import logging
import os
import resource
import signal
import sys
import threading
import time
from dataclasses import replace
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
from graycat.cli.running import configured_url
from graycat.cli.text import say
from graycat.errors import SettingsError, ShuttingDown
from graycat.gctuning import settle_memory, without_collections
from graycat.loops import readiness
from graycat.settings import Settings
from graycat.settings.home import tighten_home

logger = logging.getLogger(__name__)

#: Connections beside those that the settings allow: that send a head while all are busy, or were cut and end just now.
MORE_CONNECTIONS = 1000
#: Files and connections of a process beside those of its clients.
OTHER_FILES = 250
#: How many seconds before the end of ``stop_grace_s`` the requests that still wait are answered.
SHUTDOWN_ANSWER_S = 0.5
#: Seconds between two checks whether a process has begun its shutdown.
POLL_INTERVAL_S = 0.1


class PropagatingLogger(Logger):
    """Writes gunicorn's own log lines in graycat's format. The application logs requests, with their task."""

    def setup(self, cfg: Config) -> None:
        """Keep the handlers that ``graycat.log`` has set up, and pass all lines to them."""
        self.error_log.propagate = True

    def access(self, *_: Any) -> None:
        """Write nothing."""


class WebServer(BaseApplication):
    """gunicorn, configured from graycat's settings."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        super().__init__()

    def load_config(self) -> None:
        """Set gunicorn's options."""
        settings = self.settings
        options = {
            "bind": [f"{settings.host}:{port}" for port in (settings.port, settings.proxy_protocol_port) if port],
            # Of these alone headers of proxies are believed; by default gunicorn believes this machine's.
            "forwarded_allow_ips": settings.forwarded_from,
            "secure_scheme_headers": {"X-FORWARDED-PROTO": "https"},
            # Headers that would change a request's path: nobody's.
            "forwarder_headers": "",
            "workers": settings.web_workers,
            # One greenlet for each client: streams wait most of the time. By its name, because it imports gevent.
            "worker_class": "graycat.front.worker.GuardedWorker",
            "worker_connections": settings.max_connections + MORE_CONNECTIONS,
            # Only whether there is one: the guard of graycat.front has all time-outs.
            "keepalive": 1,
            # It would send a file past the guard's deadlines.
            "sendfile": False,
            "graceful_timeout": int(settings.stop_grace_s),
            "logger_class": PropagatingLogger,
            "post_fork": reset_sigterm,
            "worker_exit": exit_child,
            "child_exit": forget_dead_child,
            "post_worker_init": partial(prepare_child, settings),
            # It would open a socket in the home directory.
            "control_socket_disable": True,
        }
        if settings.web_workers > 1:
            # prometheus_client then keeps the counts of all processes in files of this folder.
            options["raw_env"] = [f"PROMETHEUS_MULTIPROC_DIR={metrics_folder(settings)}"]
            options["on_starting"] = partial(empty_metrics, settings)
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Return the application. gunicorn calls this in each worker process, after gevent has patched it."""
        with without_collections():
            from graycat.broker.client import check
            from graycat.web import create_app

        log.setup(self.settings)
        try:
            check(self.settings)
            return create_app(self.settings)
        except SettingsError as error:
            say(f"graycat: {error}", err=True)
            # With this status, gunicorn does not start another process in its place.
            sys.exit(Arbiter.APP_LOAD_ERROR)


def fit_to_file_limit(settings: Settings) -> Settings:
    """Raise this process's limit of open files as far as it may; return the settings with the connections that fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.max_connections + MORE_CONNECTIONS + OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    fitting = max(soft - OTHER_FILES, 1)
    if soft == resource.RLIM_INFINITY or fitting >= settings.max_connections:
        return settings
    logger.warning("fewer connections than the settings say", extra={"connections": fitting, "open_files": soft})
    return replace(settings, max_connections=fitting)


def metrics_folder(settings: Settings) -> Path:
    """Return the folder in which all web processes of one server keep their metrics."""
    return settings.home.resolve() / "metrics" / f"web-{settings.port}"


def empty_metrics(settings: Settings, _server: object) -> None:
    """Remove the metrics of an earlier run, so that counts begin at zero, as Prometheus expects after a start."""
    folder = metrics_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    for old_file in folder.glob("*.db"):
        old_file.unlink()


def forget_dead_child(_server: object, worker: Worker) -> None:
    """Remove an ended child from the gauges, which would otherwise still count its open requests."""
    if worker.cfg.workers > 1:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)


def exit_child(_server: object, _worker: object) -> None:
    """End a child with the status that gunicorn has chosen, without the interpreter's own shutdown.

    That would close log handlers when gevent's locks no longer work, which sometimes ends in a traceback.
    """
    status = 1
    reason = sys.exception()
    if isinstance(reason, SystemExit) and isinstance(reason.code, int):
        status = reason.code
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(status)


def reset_sigterm(_server: object, _worker: object) -> None:
    """Make a new child end at SIGTERM. Until it has its own handlers, its parent's handler would ignore the signal."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def prepare_child(settings: Settings, worker: Worker) -> None:
    """Prepare a new child for requests."""
    settle_memory()
    answer_before_shutdown(settings.stop_grace_s - SHUTDOWN_ANSWER_S, worker)
    url = configured_url(settings)
    if not readiness.tell_ready(url):
        logger.info("ready", extra={"url": url})


def answer_before_shutdown(answer_after_s: float, worker: Worker) -> None:
    """Answer the requests that still wait, shortly before gunicorn closes their connections in a shutdown."""

    def wait_for_shutdown() -> None:
        while worker.alive:
            time.sleep(POLL_INTERVAL_S)
        time.sleep(max(answer_after_s, 0))
        # Imported here because it imports modules that gevent must patch first.
        from graycat.web.services import services_of

        services_of(worker.wsgi).gateway.hub.fail_all(ShuttingDown())

    threading.Thread(target=wait_for_shutdown, name="shutdown-answer", daemon=True).start()


@click.command()
def web() -> None:
    """Serve the API on HOST:PORT."""
    settings = Settings.from_env()
    log.setup(settings)
    # Before gunicorn starts, which would tell that it is ready while its child still loads the application.
    readiness.tell_wait("web: loading")
    tighten_home(settings.home)
    WebServer(fit_to_file_limit(settings)).run()
