"""``/metrics`` and ``/status``: the state of this server's web processes and of all workers, for operators."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response, g, jsonify, request
from flask.typing import ResponseReturnValue
from prometheus_client import CONTENT_TYPE_LATEST, ProcessCollector, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from graycat.auth.tokens import ADMIN, METRICS
from graycat.errors import BrokerUnavailable
from graycat.metrics import web
from graycat.metrics.server import has_bearer_token, join_collectors
from graycat.status.gauges import FleetGauges
from graycat.status.snapshot import Snapshot
from graycat.web.api.health import SERVES_NOTHING, alias_notes, unserved_reason
from graycat.web.auth import API_KEY, require_scope, token_auth
from graycat.web.services import services
from graycat.web.streaming.requests import PendingTask

bp = Blueprint("metrics", __name__)

#: The label of a request without a route, and of one without an API token.
NO_LABEL = "-"
STREAM_TYPE = "text/event-stream"
#: Fields of a worker's report that ``/status`` shows.
WORKER_FIELDS = (
    "name",
    "queues",
    "engine",
    "engine_state",
    "consuming",
    "paused",
    "slots",
    "busy",
    "models",
    "gpu",
    "gpu_state",
    "left",
    "failures",
    "crash_loop",
    "last_failure",
    "retry_in_s",
    "trouble",
    "stuck",
)


@bp.get("/metrics")
def scrape() -> ResponseReturnValue:
    """Return Prometheus metrics; needs GRAYCAT_METRICS_TOKEN, or an API token with the scope metrics or admin."""
    return _operators_only(_metrics_response)


@bp.get("/status")
def status() -> ResponseReturnValue:
    """Return the state of the whole system in one answer; needs the same tokens as /metrics."""
    return _operators_only(_status_response)


def _operators_only(view: Callable[[], Response]) -> ResponseReturnValue:
    sent = request.headers.get("Authorization", "")
    key = request.headers.get(API_KEY, "")
    if not sent:
        sent, key = f"Bearer {key}", ""
    # With another header there may be two tokens.
    if not key and has_bearer_token(sent, services().metrics_token):
        return view()
    return _api_tokens_only(view)


@token_auth.login_required
def _api_tokens_only(view: Callable[[], Response]) -> ResponseReturnValue:
    if ADMIN not in g.token.scopes:
        require_scope(METRICS)
    return view()


def _status_response() -> Response:
    try:
        snapshot = services().snapshots.read()
    except BrokerUnavailable as error:
        return jsonify(
            served=False, reason=str(error), broker=False, queues=[], workers=[], missed=[], failures=[], scale={}
        )
    reason = ""
    missing = services().missing_queues(snapshot.workers)
    if missing:
        reason = unserved_reason(missing)
    elif services().serves_nothing(snapshot.workers):
        reason = SERVES_NOTHING
    return jsonify(
        served=not reason,
        reason=reason,
        notes=alias_notes(snapshot.workers),
        broker=True,
        queues=[{"name": name, **asdict(queue)} for name, queue in snapshot.queues.items()],
        workers=[{name: getattr(worker, name) for name in WORKER_FIELDS} for worker in snapshot.workers],
        missed=snapshot.missed,
        deliveries=snapshot.deliveries,
        held=asdict(snapshot.held),
        batches={"states": snapshot.batches.states, "items": snapshot.batches.items, "late": snapshot.batches.late},
        beat=snapshot.beat,
        schedules=snapshot.schedules,
        unreadable=snapshot.unreadable,
        failures=[asdict(failure) for failure in snapshot.failures],
        processes=_process_views(snapshot),
        quarantine=[asdict(item) for item in snapshot.quarantine],
        scale={family: asdict(hint) for family, hint in snapshot.scale.items()},
    )


def _process_views(snapshot: Snapshot) -> list[dict[str, Any]]:
    views = []
    for machine, processes in snapshot.processes.items():
        for process in processes:
            views.append({"machine": machine, **asdict(process)})
    return views


def _metrics_response() -> Response:
    collectors: list[Any]
    if services().settings.web_workers > 1:
        # Without the metrics of the process itself (CPU, memory): the next scrape may reach another process.
        collectors = [MultiProcessCollector(None)]
    else:
        collectors = [web.registry, ProcessCollector(registry=None)]
    gauges = FleetGauges(services().snapshots.read)
    return Response(generate_latest(join_collectors(*collectors, gauges)), content_type=CONTENT_TYPE_LATEST)


class RequestMetrics:
    """The metrics of one request, counted when its response is sent."""

    __slots__ = ("_is_stream", "_method", "_pending_task", "_route", "_started_at", "_status", "_token")

    def __init__(self, response: Response) -> None:
        self._started_at: float = g.started_at
        self._route = str(request.url_rule or NO_LABEL)
        self._method = request.method
        self._status = response.status_code
        self._token = NO_LABEL
        token = g.get("token")
        if token is not None:
            self._token = (token.parent or token).name
        self._is_stream = response.mimetype == STREAM_TYPE
        self._pending_task: PendingTask | None = g.get("pending_task")
        if self._is_stream:
            web.STREAMS_OPEN.inc()

    def end(self) -> None:
        """Count the request. Called once, when its response is sent completely or its client has disconnected."""
        web.count_request(self._route, self._method, self._status, self._token, time.monotonic() - self._started_at)
        if self._is_stream:
            web.STREAMS_OPEN.dec()
            if self._pending_task is not None and self._pending_task.first_event_at:
                seconds = self._pending_task.first_event_at - self._started_at
                web.FIRST_EVENT_SECONDS.labels(self._route).observe(seconds)
