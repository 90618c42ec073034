"""``graycat queue``: pause and resume queues, for all workers."""

from __future__ import annotations

import click

from graycat.broker.client import connect
from graycat.cli.text import say
from graycat.fleet.workers import WorkerRegistry
from graycat.queue import topology
from graycat.settings import Settings

_QUEUE = click.argument("name", type=click.Choice(topology.QUEUES))


@click.group()
def queue() -> None:
    """Pause and resume queues.

    \b
    llm        texts that somebody waits for
    llm.quick  short calls that need no slot of an engine, such as /tokenize
    llm.batch  texts of low priority
    sd         images that somebody waits for
    sd.batch   images of batches
    control    webhooks, ticks of the schedules
    """


def _open_registry() -> WorkerRegistry:
    return WorkerRegistry(connect(Settings.from_env()))


@queue.command()
@_QUEUE
def pause(name: str) -> None:
    """Have no worker take tasks from a queue.

    It still accepts new tasks: they wait, and those that wait for too long expire (GRAYCAT_QUEUE_TTL_S).
    """
    _open_registry().pause_queue(name)
    say(f"{name} is paused")


@queue.command()
@_QUEUE
def resume(name: str) -> None:
    """Have workers take tasks from a paused queue again."""
    _open_registry().resume_queue(name)
    say(f"{name} is resumed")
