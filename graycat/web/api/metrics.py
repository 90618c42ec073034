"""``/metrics`` and ``/status``: how this server's web processes and the fleet are doing, for who may see it."""

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
from graycat.metrics.server import carries, joined
from graycat.status.gauges import FleetGauges
from graycat.status.snapshot import Snapshot
from graycat.web.auth import require_scope, token_auth
from graycat.web.services import services

bp = Blueprint("metrics", __name__)

#: What is said of a request without a route, and of one without an API token.
NONE = "-"
STREAM = "text/event-stream"
#: What is told of a worker.
WORKER_FIELDS = (
    *("name", "queues", "engine", "engine_state", "consuming", "paused", "slots", "busy", "models"),
    *("gpu", "gpu_state", "left", "failures", "crash_loop", "last_failure", "retry_in_s", "trouble"),
)


@bp.get("/metrics")
def scrape() -> ResponseReturnValue:
    """Tell a scraper everything; it sends GRAYCAT_METRICS_TOKEN, or an API token with the scope metrics or admin."""
    return _for_operators(_scraped)


@bp.get("/status")
def status() -> ResponseReturnValue:
    """Tell an operator how everything is doing, in one look; for the same tokens as /metrics."""
    return _for_operators(_status)


def _for_operators(answer: Callable[[], Response]) -> ResponseReturnValue:
    shared = services()
    if carries(request.headers.get("Authorization", ""), shared.metrics_token):
        return answer()
    answered: ResponseReturnValue = _for_callers(answer)
    return answered


@token_auth.login_required
def _for_callers(answer: Callable[[], Response]) -> ResponseReturnValue:
    if ADMIN not in g.token.scopes:
        require_scope(METRICS)
    return answer()


def _status() -> Response:
    shared = services()
    try:
        look: Snapshot = shared.observer.look()
    except BrokerUnavailable as error:
        return jsonify(served=False, reason=str(error), broker=False, queues=[], workers=[], missed=[], failures=[])
    missing = shared.missing_queues(look.workers)
    return jsonify(
        served=not missing,
        reason=f"nobody consumes {', '.join(missing)}" if missing else "",
        broker=True,
        queues=[{"name": name, **asdict(queue)} for name, queue in look.queues.items()],
        workers=[{name: getattr(worker, name) for name in WORKER_FIELDS} for worker in look.workers],
        missed=look.missed,
        deliveries=look.deliveries,
        held=asdict(look.held),
        batches={"states": look.batches.states, "items": look.batches.items, "late": look.batches.late},
        failures=[asdict(failure) for failure in look.failures],
    )


def _scraped() -> Response:
    shared = services()
    gauges = FleetGauges(shared.observer.look)
    # What a process says of itself would be another's at the next scrape.
    several = shared.settings.web_workers > 1
    own = [MultiProcessCollector(None)] if several else [web.registry, ProcessCollector(registry=None)]
    return Response(generate_latest(joined(*own, gauges)), content_type=CONTENT_TYPE_LATEST)


class Measure:
    """What becomes of one request, from its answer's first byte to its last."""

    __slots__ = ("_first", "_method", "_route", "_started", "_status", "_streams", "_token")

    def __init__(self, response: Response) -> None:
        token = g.get("token")
        self._started: float = g.started
        self._route = str(request.url_rule or NONE)
        self._method = request.method
        self._status = response.status_code
        self._token = NONE if token is None else (token.parent or token).name
        self._streams = response.mimetype == STREAM
        self._first: Any = g.get("ticket")
        if self._streams:
            web.STREAMS_OPEN.inc()

    def end(self) -> None:
        """Count the request; called once, when all of it is sent or its client is gone."""
        web.answered(self._route, self._method, self._status, self._token, time.monotonic() - self._started)
        if self._streams:
            web.STREAMS_OPEN.dec()
            if self._first is not None and self._first.first_at:
                web.FIRST_EVENT_SECONDS.labels(self._route).observe(self._first.first_at - self._started)
