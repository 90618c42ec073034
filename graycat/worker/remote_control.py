"""What operators tell a worker from afar: by ``graycat worker``, and by Celery's remote control.

``celery -A graycat control --list`` knows these without a worker, so nothing heavy is imported before one is told.
"""

from __future__ import annotations

import logging
import os
import signal
from typing import TYPE_CHECKING, Any

from celery.worker.control import control_command, inspect_command

if TYPE_CHECKING:
    from graycat.worker.runtime import EngineRuntime

logger = logging.getLogger(__name__)


def _runtime() -> EngineRuntime | None:
    from graycat.worker import runtime

    return runtime.process.engine


@inspect_command(default_timeout=0.2)
def ping(_state: Any) -> dict[str, str]:
    """Answer in the place of Celery's own ``ping``: ``pong`` alone comes from a worker that takes tasks."""
    runtime = _runtime()
    reason = runtime.idle_reason if runtime is not None else ""
    return {"ok": f"pong, but takes nothing: {reason}" if reason else "pong"}


#: What a worker without an engine answers to who would pause it.
NO_ENGINE = {"error": "has no engine, and so nothing to pause"}


@control_command()
def pause_worker(_state: Any) -> dict[str, str]:
    """Have this worker take nothing until it is resumed; what runs goes on."""
    if (runtime := _runtime()) is None:
        return NO_ENGINE
    runtime.paused = True
    logger.warning("worker paused")
    return {"ok": "takes nothing until it is resumed"}


@control_command()
def resume_worker(_state: Any) -> dict[str, str]:
    """Have a paused worker take tasks again."""
    if (runtime := _runtime()) is None:
        return NO_ENGINE
    runtime.paused = False
    logger.info("worker resumed")
    return {"ok": "takes tasks again"}


@control_command(args=[("limit_s", float)], signature="[SECONDS]")
def drain_worker(_state: Any, limit_s: float | None = None) -> dict[str, str]:
    """Have this worker take nothing more, finish what runs within a limit, hand back the rest, and end."""
    return _drain(limit_s)


def _drain(limit_s: float | None = None) -> dict[str, str]:
    within = ""
    if (runtime := _runtime()) is not None:
        runtime.paused = True
        if limit_s is not None:
            runtime.grace_s = float(limit_s)
        within = f"finishes what runs within {runtime.grace_s:g} s, then "
    logger.warning("worker drains", extra={"limit_s": limit_s})
    # The way that a supervisor takes, too: Celery's warm shutdown. Last: it may act at once, by what is set above.
    os.kill(os.getpid(), signal.SIGTERM)
    return {"ok": f"{within}ends"}


@control_command(name="shutdown")
def end_worker(_state: Any, **_: Any) -> dict[str, str]:
    """Have this worker end as when it is drained: Celery's own, as Flower's button sends it, would give no grace."""
    return _drain()
