"""``graycat worker``: run a Celery worker for one kind of work, or tell one that runs what to do."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import click
from celery.exceptions import SecurityWarning

from graycat.queue.topology import WORKER_KINDS, WorkerKind
from graycat.settings import Settings

#: Threads of workers without an engine; those with one have as many tasks at once as that has slots.
THREADS = 16
#: Seconds that a worker gets to answer what it is told.
ANSWER_S = 3.0


@click.group()
def worker() -> None:
    """Run a worker, or tell one that runs what to do."""


def _run(kind: WorkerKind, name: str | None, gpu: int | None) -> None:
    from graycat.broker.client import check
    from graycat.celeryapp import create_celery
    from graycat.engines.gpus import Placement

    settings = Settings.from_env()
    check(settings)
    app = create_celery(settings, gpu, kind.name)
    app.set_default()
    name = name or Placement(gpu, 0).worker_name(kind.name, settings.box)
    arguments = ["--quiet", "worker", "--queues", ",".join(kind.queues), "--hostname", name]
    # Workers need not know of each other; the records hold what they share.
    arguments += ["--without-gossip", "--without-mingle", "--loglevel", "INFO"]
    if kind.family is None:
        arguments += ["--concurrency", str(THREADS)]
    # Celery warns root of pickled messages; here only JSON is accepted.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    sys.exit(app.worker_main(arguments))


def _command(kind: WorkerKind) -> click.Command:
    name = click.Option(
        ["--name"], help=f"Name in the fleet; default {kind.name}@GRAYCAT_BOX, which is by default the host's name."
    )
    gpu = click.Option(["--gpu"], type=click.IntRange(min=0), help="Index of the GPU that the engine gets.")
    options: list[click.Parameter] = [name]
    if kind.family is not None:
        options.append(gpu)

    def callback(name: str | None, gpu: int | None = None) -> None:
        _run(kind, name, gpu)

    return click.Command(kind.name, params=options, callback=callback, help=kind.help)


for _kind in WORKER_KINDS.values():
    worker.add_command(_command(_kind))


def _tell(name: str, command: str, **arguments: Any) -> None:
    """Tell a worker something and print what it says. Exits with 3 where none of that name answers."""
    from graycat.celeryapp import create_celery

    app = create_celery(Settings.from_env())
    replies = app.control.broadcast(command, arguments, destination=[name], reply=True, timeout=ANSWER_S)
    if not replies:
        click.echo(f"graycat: no worker {name!r} answers; GET /ready lists those that run", err=True)
        sys.exit(3)
    reply = next(iter(replies[0].values()))
    if "ok" not in reply:
        click.echo(f"graycat: {name} {reply.get('error', 'does not know that')}", err=True)
        sys.exit(1)
    click.echo(f"{name} {reply['ok']}")


@worker.command()
@click.argument("name")
@click.option("--limit", type=float, help="Seconds that running tasks get; default GRAYCAT_STOP_GRACE_S.")
def drain(name: str, limit: float | None) -> None:
    """Have a worker take nothing more, finish what runs, hand back the rest, and end."""
    _tell(name, "drain_worker", **({"limit_s": limit} if limit is not None else {}))


@worker.command()
@click.argument("name")
def pause(name: str) -> None:
    """Have a worker take nothing until it is resumed."""
    _tell(name, "pause_worker")


@worker.command()
@click.argument("name")
def resume(name: str) -> None:
    """Have a paused worker take tasks again."""
    _tell(name, "resume_worker")
