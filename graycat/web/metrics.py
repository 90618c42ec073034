"""``/metrics``: this web process's (or all web processes') metrics, and the fleet's, for who may see them."""

from __future__ import annotations

import time
from typing import Any

from flask import Blueprint, Response, current_app, g, request
from flask.typing import ResponseReturnValue
from prometheus_client import CONTENT_TYPE_LATEST, ProcessCollector, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from graycat.apitokens import ADMIN, METRICS
from graycat.metrics import http
from graycat.metrics.endpoint import carries, joined
from graycat.metrics.gauges import FleetGauges
from graycat.web.auth import require_scope, token_auth

bp = Blueprint("metrics", __name__)

#: What is said of a request without a route, and of one without an API token.
NONE = "-"
STREAM = "text/event-stream"


@bp.get("/metrics")
def scrape() -> ResponseReturnValue:
    """Tell a scraper everything; it sends GRAYCAT_METRICS_TOKEN, or an API token with the scope metrics or admin."""
    token = current_app.extensions["graycat"].settings.metrics_token
    if token and carries(request.headers.get("Authorization", ""), token):
        return _scraped()
    answered: ResponseReturnValue = _scraped_by_caller()
    return answered


@token_auth.login_required
def _scraped_by_caller() -> ResponseReturnValue:
    if ADMIN not in g.token.scopes:
        require_scope(METRICS)
    return _scraped()


def _scraped() -> Response:
    extension = current_app.extensions["graycat"]
    gauges = FleetGauges(extension.observer.look)
    # What a process says of itself would be another's at the next scrape.
    several = extension.settings.web_workers > 1
    own = [MultiProcessCollector(None)] if several else [http.registry, ProcessCollector(registry=None)]
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
            http.STREAMS_OPEN.inc()

    def end(self) -> None:
        """Count the request; called once, when all of it is sent or its client is gone."""
        http.answered(self._route, self._method, self._status, self._token, time.monotonic() - self._started)
        if self._streams:
            http.STREAMS_OPEN.dec()
            if self._first is not None and self._first.first_at:
                http.FIRST_EVENT_SECONDS.labels(self._route).observe(self._first.first_at - self._started)
