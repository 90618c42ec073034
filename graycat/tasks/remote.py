"""What operators tell a worker from afar: by ``graycat worker``, Celery's remote control, and so also from Flower."""

from __future__ import annotations

import logging
import os
import signal
from typing import Any

from celery.worker.control import control_command

from graycat.tasks import runtime as rt
from graycat.tasks.runtime import Runtime

logger = logging.getLogger(__name__)


#: What a worker answers that has no engine, and so no gate to close.
NO_GATE = {"error": "only workers with an engine can be paused"}


def _runtime() -> Runtime | None:
    try:
        return rt.current()
    except IndexError:
        return None


@control_command()
def pause_worker(_state: Any) -> dict[str, str]:
    """Have this worker take nothing until it is resumed; what runs goes on."""
    if (runtime := _runtime()) is None:
        return NO_GATE
    runtime.paused = True
    logger.warning("worker paused")
    return {"ok": "takes nothing until it is resumed"}


@control_command()
def resume_worker(_state: Any) -> dict[str, str]:
    """Have a paused worker take tasks again."""
    if (runtime := _runtime()) is None:
        return NO_GATE
    runtime.paused = False
    logger.info("worker resumed")
    return {"ok": "takes tasks again"}


@control_command(args=[("limit_s", float)], signature="[SECONDS]")
def drain_worker(_state: Any, limit_s: float | None = None) -> dict[str, str]:
    """Have this worker take nothing more, finish what runs within a limit, hand back the rest, and end."""
    within = ""
    if (runtime := _runtime()) is not None:
        runtime.paused = True
        if limit_s is not None:
            runtime.grace_s = float(limit_s)
        within = f" within {runtime.grace_s:g} s"
    logger.warning("worker drains", extra={"limit_s": limit_s})
    # The way that a supervisor takes, too: Celery's warm shutdown.
    os.kill(os.getpid(), signal.SIGTERM)
    return {"ok": f"finishes what runs{within}, then ends"}


@control_command(name="shutdown")
def end_worker(_state: Any, **_: Any) -> dict[str, str]:
    """Have this worker end as when it is drained: Celery's own, as Flower's button sends it, would give no grace."""
    return drain_worker(_state)
