"""``graycat engine``: runs an engine alone, without a worker, and restarts it when it ends."""

from __future__ import annotations

import time

import click

from graycat import families, log
from graycat.cli.signals import stop_event
from graycat.cli.text import say
from graycat.engines import factory
from graycat.engines.base import State
from graycat.loops import readiness
from graycat.settings import Settings
from graycat.settings.home import tighten_home

#: Seconds between two steps of the engine's supervisor.
POLL_INTERVAL_S = 0.1
#: Seconds between two checks whether the engine's log must be rotated.
ROTATE_INTERVAL_S = 10.0


@click.command()
@click.argument("kind", type=click.Choice(list(families.BY_NAME)))
@click.option("--gpu", type=click.IntRange(min=0), help="Index of the GPU that the engine uses.")
def engine(kind: str, gpu: int | None) -> None:
    """Run the text engine (llm) or the image engine (sd).

    It is restarted whenever it ends. A worker starts its engine itself, so few need this.
    """
    settings = Settings.from_env()
    log.setup(settings)
    tighten_home(settings.home)
    built = factory.build_engine(settings, families.BY_NAME[kind], gpu)
    if built.child is None:
        raise click.UsageError("the settings name an engine that runs already: there is nothing to start")

    stopping = stop_event()
    printed_state = State.STOPPED
    rotate_at = 0.0
    while not stopping.wait(POLL_INTERVAL_S):
        now = time.monotonic()
        state = built.supervisor.step(now)
        if state is not printed_state:
            printed_state = state
            tell(kind, state, built.supervisor.trouble)
        if now >= rotate_at:
            rotate_at = now + ROTATE_INTERVAL_S
            built.child.rotate()
    built.supervisor.stop()


def tell(kind: str, state: State, trouble: str) -> None:
    """Say in which state the engine is."""
    title = families.BY_NAME[kind].engine_title
    if state is State.READY:
        heard = readiness.tell_ready()
    else:
        heard = readiness.tell_wait(f"{title}: {trouble or state.value}")
    if not heard:
        say(f"{kind} engine: {state.value} {trouble}".rstrip())
