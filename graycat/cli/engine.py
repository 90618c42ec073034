"""``graycat engine``: an engine by itself, kept running, without a worker in front of it."""

from __future__ import annotations

import signal
import threading
import time

import click

from graycat import families, log
from graycat.engines import factory
from graycat.engines.base import State
from graycat.settings import Settings

#: Seconds between two looks at the engine, and between two at the length of its output.
LOOK_EVERY_S, ROTATE_EVERY_S = 0.1, 10.0


@click.command()
@click.argument("kind", type=click.Choice(list(families.BY_NAME)))
@click.option("--gpu", type=click.IntRange(min=0), help="Index of the GPU that the engine gets.")
def engine(kind: str, gpu: int | None) -> None:
    """Run the text (llm) or the image engine (sd) of this machine, and start it again whenever it ends."""
    settings = Settings.from_env()
    log.setup(settings)
    ours = factory.build_engine(settings, families.BY_NAME[kind], gpu)
    if ours.child is None:
        raise click.UsageError("the settings name an engine that runs already: there is nothing to start")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    told, rotate_at = State.STOPPED, 0.0
    while not stopping.wait(LOOK_EVERY_S):
        now = time.monotonic()
        if (state := ours.supervisor.step(now)) is not told:
            told = state
            click.echo(f"{kind} engine: {state.value} {ours.supervisor.trouble}".rstrip())
        if now >= rotate_at:
            rotate_at = now + ROTATE_EVERY_S
            ours.child.rotate()
    ours.supervisor.stop()
