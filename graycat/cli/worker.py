"""``graycat worker``: run a Celery worker of one kind, or control a running one."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any

import click
from celery.exceptions import SecurityWarning

from graycat.cli.running import with_running_ports
from graycat.cli.text import say
from graycat.gctuning import without_collections
from graycat.loops import readiness
from graycat.queue.topology import WORKER_KINDS, WorkerKind
from graycat.settings import Settings, environment
from graycat.settings.home import tighten_home

#: Threads of workers without an engine. A worker with an engine runs as many tasks at once as that has slots.
THREADS = 16
#: Seconds in which a worker answers a control command.
REPLY_TIMEOUT_S = 3.0


@click.group()
def worker() -> None:
    """Pause, resume or drain a running worker, or run one."""


def full_name(kind: WorkerKind, name: str | None) -> str | None:
    """Return the name KIND@BOX of a worker that was given as that, or as BOX alone."""
    if name and "@" not in name:
        return f"{kind.name}@{name}"
    return name


@without_collections()
def _create_worker(kind: WorkerKind, name: str | None, gpu: int | None) -> Any:
    from celery.apps import worker as celery_worker

    from graycat.broker.client import check
    from graycat.celeryapp import create_celery
    from graycat.engines.gpus import Placement

    settings = with_running_ports(Settings.from_env(), environment())
    check(settings)
    check_engine(settings, kind, gpu)
    tighten_home(settings.home)
    app = create_celery(settings, gpu, kind.name)
    app.set_default()
    if readiness.is_heard():
        # It says itself that everything stops; Celery's handler of signals would add two lines for each worker.
        celery_worker.safe_say = lambda *_, **__: None  # type: ignore[attr-defined]
    # Celery warns root users about pickled messages, but this application accepts JSON only.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    concurrency = None
    if kind.family is None:
        concurrency = THREADS
    # Not by Celery's command line: it loads a shell and Flower, a fifth of the time that a worker takes to start.
    return app.Worker(
        hostname=full_name(kind, name) or Placement(gpu, 0).worker_name(kind.name, settings.box),
        queues=list(kind.queues),
        concurrency=concurrency,
        loglevel=logging.INFO,
        quiet=True,
        # Workers need no messages from each other: what they share is in the broker.
        without_gossip=True,
        without_mingle=True,
    )


def check_engine(settings: Settings, kind: WorkerKind, gpu: int | None) -> None:
    """Check the worker's engine before Celery starts, which would answer with a traceback. Raises SettingsError."""
    from graycat.engines import factory, gpus

    family = kind.family
    if family is not None:
        placement = gpus.find_placement(settings, family, gpu)
        factory.describe_engine(settings, family, placement, own=family.interactive in kind.queues)


def _run_worker(kind: WorkerKind, name: str | None, gpu: int | None) -> None:
    controller = _create_worker(kind, name, gpu)
    controller.start()
    sys.exit(controller.exitcode)


def _build_command(kind: WorkerKind) -> click.Command:
    name = click.Option(
        ["--name"],
        help=f"The worker's name, {kind.name}@NAME or NAME alone; default {kind.name}@GRAYCAT_BOX, where GRAYCAT_BOX "
        "is by default the host's name.",
    )
    gpu = click.Option(["--gpu"], type=click.IntRange(min=0), help="Index of the GPU that the engine uses.")
    options: list[click.Parameter] = [name]
    if kind.family is not None:
        options.append(gpu)

    def callback(name: str | None, gpu: int | None = None) -> None:
        _run_worker(kind, name, gpu)

    return click.Command(kind.name, params=options, callback=callback, help=kind.help)


for _kind in WORKER_KINDS.values():
    worker.add_command(_build_command(_kind))


def _send_command(name: str, command: str, **arguments: Any) -> None:
    """Send a control command to a worker and print its reply. Exits with 3 if no worker of that name answers."""
    from graycat.celeryapp import create_celery
    from graycat.queue.control import ask_worker

    reply = ask_worker(create_celery(Settings.from_env()), command, arguments, name, REPLY_TIMEOUT_S)
    if reply is None:
        say(f"graycat: no worker {name!r} answers; GET /ready lists those that run", err=True)
        sys.exit(3)
    if "ok" not in reply:
        say(f"graycat: {name} {reply.get('error', 'does not know this command')}", err=True)
        sys.exit(1)
    say(f"{name} {reply['ok']}")


@worker.command()
@click.argument("name")
@click.option("--limit", type=float, help="Seconds in which running tasks may end; default GRAYCAT_STOP_GRACE_S.")
def drain(name: str, limit: float | None) -> None:
    """End a worker when its tasks are done.

    It takes no more tasks and finishes those that run. What runs longer than the limit is handed back, and another
    worker does it. NAME is as graycat status shows it: llm@box7.
    """
    if limit is None:
        _send_command(name, "drain_worker")
    else:
        _send_command(name, "drain_worker", limit_s=limit)


@worker.command()
@click.argument("name")
def pause(name: str) -> None:
    """Have a worker take no tasks until it is resumed.

    What runs is finished. NAME is as graycat status shows it: llm@box7.
    """
    _send_command(name, "pause_worker")


@worker.command()
@click.argument("name")
def resume(name: str) -> None:
    """Have a paused worker take tasks again."""
    _send_command(name, "resume_worker")
