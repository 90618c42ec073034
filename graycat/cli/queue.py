"""``graycat queue``: have nobody take from a queue for a while."""

from __future__ import annotations

import click

from graycat.broker.client import connect
from graycat.fleet.workers import WorkerRegistry
from graycat.queue import topology
from graycat.settings import Settings

_QUEUE = click.argument("name", type=click.Choice(topology.QUEUES))


@click.group()
def queue() -> None:
    """Pause and resume queues."""


def _fleet() -> WorkerRegistry:
    return WorkerRegistry(connect(Settings.from_env()))


@queue.command()
@_QUEUE
def pause(name: str) -> None:
    """Have no worker take from a queue; it goes on taking in tasks."""
    _fleet().pause_queue(name)
    click.echo(f"{name} is paused")


@queue.command()
@_QUEUE
def resume(name: str) -> None:
    """Have workers take from a queue again."""
    _fleet().resume_queue(name)
    click.echo(f"{name} is resumed")
