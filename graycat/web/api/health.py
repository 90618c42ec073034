"""Health checks for probes, load balancers and Unity's clients."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from graycat import families
from graycat.errors import BrokerUnavailable, EngineNotReady
from graycat.fleet.catalogs import workers_with
from graycat.fleet.model_names import choose_model
from graycat.fleet.reports import WorkerStatus
from graycat.fleet.workers import select_serving
from graycat.loops.threads import stuck_loops
from graycat.queue.topology import CONTROL, LLM
from graycat.settings.aliases import parse_aliases
from graycat.web.auth import token_auth
from graycat.web.services import services

bp = Blueprint("health", __name__)

#: Fields of a worker's report that ``/ready`` shows.
WORKER_FIELDS = (
    "name",
    "queues",
    "engine",
    "consuming",
    "slots",
    "busy",
    "gpu",
    "gpu_state",
    "paused",
    "left",
    "failures",
    "trouble",
    "crash_loop",
    "last_failure",
    "retry_in_s",
    "stuck",
)

PLACEHOLDER_NOTE = "images are drawn by the placeholder, not by a model: set A1111_URL or SD_STARTUP_COMMAND"
#: Why a web process that gets no events is not ready: its requests would wait for ever.
HUB_STUCK = "this web process gets no events from the broker (hub); it connects again by itself"
CONTROL_NOTE = "webhooks wait, no worker consumes control: start graycat worker control"
BEAT_NOTE = "schedules do not fire, no beat ticks: start graycat beat"


@bp.get("/v1/health")
@bp.get("/health")
def live() -> ResponseReturnValue:
    """Answer that this process is alive; says nothing about engines."""
    return jsonify(status="ok")


@bp.get("/health/web")
def web() -> ResponseReturnValue:
    """Answer whether this web process can serve: the broker answers, and its loops run; says nothing about engines."""
    reason = stuck_here()
    try:
        services().workers()
    except BrokerUnavailable as error:
        reason = str(error)
    if reason:
        return jsonify(status="unavailable", reason=reason), 503
    return jsonify(status="ok")


@bp.post("/v1/health")
@bp.post("/health")
@token_auth.login_required
def engine() -> ResponseReturnValue:
    """Answer 2xx if a text engine is ready, else 503: Unity's clients take any 2xx for alive.

    An engine that served a moment ago and is being restarted by its worker counts as ready.
    """
    workers, headers = services().select_answering(LLM)
    if not workers or (headers and not services().is_restarting(LLM)):
        services().require_engine(families.LLM)
        raise EngineNotReady
    response = jsonify(status="ok")
    response.headers.update(headers)
    return response


def _failure_count(worker: WorkerStatus) -> str:
    if not worker.failures:
        return ""
    retry = ""
    if worker.retry_in_s:
        retry = f", next try in {worker.retry_in_s:.0f} s"
    return f" ({worker.failures} failures in a row{retry})"


def _crash_loops(workers: list[WorkerStatus]) -> list[str]:
    """Return a note for each engine that fails again and again, also if its queues are served."""
    return [f"{w.name}: crash loop: {w.last_failure}{_failure_count(w)}" for w in workers if w.crash_loop]


def _stuck_loops(workers: list[WorkerStatus]) -> list[str]:
    """Return a note for each worker with loops that are stuck or gone, also if its queues are served."""
    return [f"{w.name}: stuck or gone: {', '.join(w.stuck)}" for w in workers if w.stuck]


def stuck_here() -> str:
    """Return which loops of this web process are stuck or gone; '' if none is. Its requests would wait for ever."""
    stuck = stuck_loops()
    if stuck == ["hub"]:
        return HUB_STUCK
    if stuck:
        return f"this web process: stuck or gone: {', '.join(stuck)}"
    return ""


def _troubles(workers: list[WorkerStatus]) -> list[str]:
    """Return what keeps workers from consuming, as far as they report it."""
    troubles = [f"{w.name}: {w.trouble}{_failure_count(w)}" for w in workers if w.trouble]
    troubles += _stuck_loops(workers)
    troubles += [f"{w.name} is paused" for w in workers if w.paused]
    troubles += [f"{w.name} does not take {', '.join(w.left)}: paused, or told to leave" for w in workers if w.left]
    return troubles


def _process_notes() -> list[str]:
    """Return a note for each process under ``graycat up`` that does not run and was not asked to stop."""
    notes = []
    for machine, processes in services().snapshots.read().processes.items():
        for process in processes:
            if process.state in ("crash loop", "backing off"):
                notes.append(f"{process.name} on {machine}: {process.state}: {process.last_end}")
    return notes


def _worker_view(worker: WorkerStatus) -> dict[str, Any]:
    view = {name: getattr(worker, name) for name in WORKER_FIELDS}
    view["state"] = worker.engine_state
    return view


@bp.get("/ready")
def ready() -> ResponseReturnValue:
    """Answer whether each queue has a worker that consumes it, with a healthy engine; shows no addresses."""
    try:
        workers = services().worker_registry.workers()
    except BrokerUnavailable as error:
        return jsonify(ready=False, reason=str(error), workers=[]), 503

    reason = ""
    status = 200
    missing = services().missing_queues(workers)
    stuck = stuck_here()
    if missing:
        reason = "; ".join([unserved_reason(missing), *_troubles(workers)])
        status = 503
    elif stuck:
        reason = stuck
        status = 503

    notes = []
    if any(worker.engine == "placeholder" for worker in workers):
        notes.append(PLACEHOLDER_NOTE)
    notes += _crash_loops(workers)
    notes += _stuck_loops(workers)
    notes += _process_notes()
    if not select_serving(workers, CONTROL):
        # Only a note: tasks run without a control worker, and webhooks are sent later.
        notes.append(CONTROL_NOTE)
    notes += alias_notes(workers)
    notes += _snapshot_notes()
    return jsonify(ready=status == 200, reason=reason, notes=notes, workers=list(map(_worker_view, workers))), status


def _snapshot_notes() -> list[str]:
    """Return notes about schedules that nobody fires, and what something else has written into the broker."""
    notes = []
    with suppress(BrokerUnavailable):
        snapshot = services().snapshots.read()
        if snapshot.schedules and not snapshot.beat:
            notes.append(BEAT_NOTE)
        if snapshot.unreadable:
            notes.append(f"not readable in the broker, and left out: {', '.join(snapshot.unreadable)}")
    return notes


def alias_notes(workers: list[WorkerStatus]) -> list[str]:
    """Return a note for each alias whose model no worker has: its callers get 404, and nobody else would notice."""
    notes = []
    settings = services().settings
    with suppress(BrokerUnavailable):
        for alias, model in parse_aliases(settings.model_aliases).items():
            # An alias may stand for a checkpoint as well.
            if choose_model(alias, LLM, workers, settings).is_known or workers_with(model, services().catalogs()):
                continue
            notes.append(f"no worker has the model {model!r}, for which the alias {alias!r} stands")
    return notes


#: The reason to show if there is neither an engine here nor a worker elsewhere.
SERVES_NOTHING = (
    "no engine is enabled here (RUN_LLM, RUN_SD), and no worker elsewhere serves one: "
    "start a worker of a box (docs/boxes.md)"
)


def unserved_reason(queues: list[str]) -> str:
    """Return the reason to show if no worker consumes some queues."""
    return f"no worker consumes {', '.join(queues)}"
