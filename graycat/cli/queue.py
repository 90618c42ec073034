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
    """Pause and resume queues."""


def _open_registry() -> WorkerRegistry:
    return WorkerRegistry(connect(Settings.from_env()))


@queue.command()
@_QUEUE
def pause(name: str) -> None:
    """Pause a queue: no worker takes tasks from it. It still accepts new tasks."""
    _open_registry().pause_queue(name)
    say(f"{name} is paused")


@queue.command()
@_QUEUE
def resume(name: str) -> None:
    """Resume a paused queue."""
    _open_registry().resume_queue(name)
    say(f"{name} is resumed")
