"""Is it alive, is it ready: for probes, load balancers and Unity's clients."""

from __future__ import annotations

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from graycat.errors import BrokerUnavailable, EngineNotReady
from graycat.fleet.workers import WorkerStatus, serving
from graycat.queue.topology import CONTROL, LLM
from graycat.web.auth import token_auth
from graycat.web.services import services

bp = Blueprint("health", __name__)

PLACEHOLDER_NOTE = "images are drawn by the placeholder, not by a model: set A1111_URL or SD_STARTUP_COMMAND"
CONTROL_NOTE = "webhooks wait, nobody consumes control: start graycat worker control"


@bp.get("/health")
@bp.get("/v1/health")
def live() -> ResponseReturnValue:
    """Tell that this process answers; says nothing of engines."""
    return jsonify(status="ok")


@bp.post("/health")
@bp.post("/v1/health")
@token_auth.login_required
def healthy() -> ResponseReturnValue:
    """Tell a Unity client whether a model would answer it (its reading: any 2xx is alive)."""
    if not services().serving(LLM):
        raise EngineNotReady
    return jsonify(status="ok")


def _failures(worker: WorkerStatus) -> str:
    if not worker.failures:
        return ""
    retry = f", next try in {worker.retry_in_s:.0f} s" if worker.retry_in_s else ""
    return f" ({worker.failures} failures in a row{retry})"


def _crash_loops(workers: list[WorkerStatus]) -> list[str]:
    """Return what is told of engines that fail again and again, also while others, or they themselves, serve."""
    return [f"{w.name}: crash loop: {w.last_failure}{_failures(w)}" for w in workers if w.crash_loop]


def _troubles(workers: list[WorkerStatus]) -> str:
    """Return what keeps workers from consuming, as far as they tell."""
    told = [f"{w.name}: {w.trouble}{_failures(w)}" for w in workers if w.trouble]
    told += [f"{w.name} is paused" for w in workers if w.paused]
    told += [f"{w.name} does not take {', '.join(w.left)}: paused, or told to leave" for w in workers if w.left]
    return "; " + "; ".join(told) if told else ""


@bp.get("/ready")
def ready() -> ResponseReturnValue:
    """Tell whether each queue has a worker that really consumes, its engine healthy; names no addresses."""
    shared = services()
    try:
        workers = shared.fleet.workers()
    except BrokerUnavailable as error:
        return jsonify(ready=False, reason=str(error), workers=[]), 503
    report = [
        {"name": w.name, "queues": w.queues, "engine": w.engine, "state": w.engine_state, "consuming": w.consuming,
         "slots": w.slots, "busy": w.busy, "gpu": w.gpu, "gpu_state": w.gpu_state, "paused": w.paused, "left": w.left,
         "failures": w.failures, "trouble": w.trouble, "crash_loop": w.crash_loop, "last_failure": w.last_failure,
         "retry_in_s": w.retry_in_s}
        for w in workers
    ]  # fmt: skip
    missing = shared.missing_queues(workers)
    reason = f"nobody consumes {', '.join(missing)}{_troubles(workers)}" if missing else ""
    notes = [PLACEHOLDER_NOTE] if any(worker.engine == "placeholder" for worker in workers) else []
    notes += _crash_loops(workers)
    # No reason to send nobody here: tasks run, and are told of later.
    notes += [] if serving(workers, CONTROL) else [CONTROL_NOTE]
    return jsonify(ready=not missing, reason=reason, notes=notes, workers=report), 503 if missing else 200
