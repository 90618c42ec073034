"""What operators tell a worker from afar: by ``graycat worker``, Celery's remote control, and so also from Flower."""

from __future__ import annotations

import logging
import os
import signal
from typing import Any

from celery.worker.control import control_command, inspect_command

from graycat.tasks import runtime as rt

logger = logging.getLogger(__name__)


@inspect_command(default_timeout=0.2)
def ping(_state: Any) -> dict[str, str]:
    """Answer in the place of Celery's own ``ping``: ``pong`` alone comes from a worker that takes tasks."""
    runtime = rt.installed()
    reason = runtime.idle_reason if runtime is not None else ""
    return {"ok": f"pong, but takes nothing: {reason}" if reason else "pong"}


@control_command()
def pause_worker(_state: Any) -> dict[str, str]:
    """Have this worker take nothing until it is resumed; what runs goes on."""
    rt.current().paused = True
    logger.warning("worker paused")
    return {"ok": "takes nothing until it is resumed"}


@control_command()
def resume_worker(_state: Any) -> dict[str, str]:
    """Have a paused worker take tasks again."""
    rt.current().paused = False
    logger.info("worker resumed")
    return {"ok": "takes tasks again"}


@control_command(args=[("limit_s", float)], signature="[SECONDS]")
def drain_worker(_state: Any, limit_s: float | None = None) -> dict[str, str]:
    """Have this worker take nothing more, finish what runs within a limit, hand back the rest, and end."""
    runtime = rt.current()
    runtime.paused = True
    if limit_s is not None:
        runtime.grace_s = float(limit_s)
    logger.warning("worker drains", extra={"limit_s": runtime.grace_s})
    # The way that a supervisor takes, too: Celery's warm shutdown.
    os.kill(os.getpid(), signal.SIGTERM)
    return {"ok": f"finishes what runs within {runtime.grace_s:g} s, then ends"}
