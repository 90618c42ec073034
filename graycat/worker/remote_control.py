"""Remote control of workers: the commands of ``graycat worker`` and of ``celery -A graycat control``.

``celery -A graycat control --list`` lists them without a worker, so heavy modules are imported only in a call. A newer
release may send arguments that a command does not know: it passes over them.
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
def ping(_state: Any, **_: Any) -> dict[str, str]:
    """Replace Celery's ``ping``: only a worker that takes tasks replies a plain ``pong``."""
    runtime = _runtime()
    if runtime is not None and runtime.idle_reason:
        return {"ok": f"pong, but takes nothing: {runtime.idle_reason}"}
    return {"ok": "pong"}


#: The reply of a worker without an engine to pause and resume.
NO_ENGINE = {"error": "has no engine, and so nothing to pause"}


@control_command()
def pause_worker(_state: Any, **_: Any) -> dict[str, str]:
    """Take no tasks until the worker is resumed; running tasks go on."""
    runtime = _runtime()
    if runtime is None:
        return NO_ENGINE
    runtime.paused = True
    logger.warning("worker paused")
    return {"ok": "takes nothing until it is resumed"}


@control_command()
def resume_worker(_state: Any, **_: Any) -> dict[str, str]:
    """Take tasks again after a pause."""
    runtime = _runtime()
    if runtime is None:
        return NO_ENGINE
    runtime.paused = False
    logger.info("worker resumed")
    return {"ok": "takes tasks again"}


@control_command(args=[("limit_s", float)], signature="[SECONDS]")
def drain_worker(_state: Any, limit_s: float | None = None, **_: Any) -> dict[str, str]:
    """Take no more tasks, finish the running ones within a limit, hand the others back, and end."""
    return _drain(limit_s)


def _drain(limit_s: float | None = None) -> dict[str, str]:
    within = ""
    runtime = _runtime()
    if runtime is not None:
        runtime.paused = True
        if limit_s is not None:
            runtime.grace_s = float(limit_s)
        within = f"finishes what runs within {runtime.grace_s:g} s, then "
    logger.warning("worker drains", extra={"limit_s": limit_s})
    # Celery's warm shutdown, as a process supervisor requests it. Last, because it may act at once on the lines above.
    os.kill(os.getpid(), signal.SIGTERM)
    return {"ok": f"{within}ends"}


@control_command(name="shutdown")
def end_worker(_state: Any, **_: Any) -> dict[str, str]:
    """Replace Celery's ``shutdown``, which Flower's button sends: it would not let running tasks finish."""
    return _drain()
