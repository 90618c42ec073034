"""Metrics of a web process: its requests and streams, and the tasks that ended without a worker.

With several web processes prometheus_client keeps them in files that all of them write and each can read.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from graycat.loops.unexpected import UNEXPECTED

registry = CollectorRegistry()
registry.register(UNEXPECTED)

#: Seconds: a refusal takes milliseconds, a long answer minutes.
REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
FIRST_EVENT_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 30, 60)
#: Methods with a label of their own; any other is ``other``.
METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})
#: API tokens with a label of their own in a process; all further ones are ``other``.
MAX_TOKENS = 100
OTHER = "other"

REQUESTS = Counter(
    "graycat_http_requests_total",
    "HTTP requests that were answered, by URL rule, method, status and API token (a player's counts for its parent).",
    ["route", "method", "status", "token"],
    registry=registry,
)
REQUEST_SECONDS = Histogram(
    "graycat_http_request_seconds",
    "Seconds from an HTTP request to the last byte of its answer, streams included.",
    ["route"],
    buckets=REQUEST_BUCKETS,
    registry=registry,
)
FIRST_EVENT_SECONDS = Histogram(
    "graycat_http_first_event_seconds",
    "Seconds from an HTTP request that streams to the first event of its answer.",
    ["route"],
    buckets=FIRST_EVENT_BUCKETS,
    registry=registry,
)
STREAMS_OPEN = Gauge(
    "graycat_http_streams_open",
    "Server-sent event streams that are open now.",
    registry=registry,
    multiprocess_mode="livesum",
)
CONNECTIONS_OPEN = Gauge(
    "graycat_http_connections",
    "Connections of clients that are open now, by what they wait for.",
    ["state"],
    registry=registry,
    multiprocess_mode="livesum",
)
CONNECTIONS_REFUSED = Counter(
    "graycat_http_connections_refused_total",
    "Connections that were closed at once because their address, or all together, have as many as they may, or because "
    "they are no proxy's.",
    ["limit"],
    registry=registry,
)
CONNECTIONS_CUT = Counter(
    "graycat_http_connections_cut_total",
    "Connections that were ended because they waited for too long, or had to make room for others.",
    ["reason"],
    registry=registry,
)
REQUESTS_REJECTED = Counter(
    "graycat_http_requests_rejected_total",
    "Requests that were refused before any route because they are not HTTP, by the type of the answer.",
    ["type"],
    registry=registry,
)
TASKS = Counter(
    "graycat_tasks_total",
    "Tasks that ended before a worker had begun them (expired, cancelled), as far as a web process ended them.",
    ["kind", "outcome"],
    registry=registry,
)

PUSHES_DROPPED = Counter(
    "graycat_pushes_dropped_total",
    "Events that were pushed here and dropped: nobody waits for them any more (unwaited), their task is of another "
    "family (forged), or they are more than any engine makes (flood).",
    ["reason"],
    registry=registry,
)

_tokens: set[str] = set()


def count_request(route: str, method: str, status: int, token: str, seconds: float) -> None:
    """Count a request at its end."""
    if method not in METHODS:
        method = OTHER
    REQUESTS.labels(route, method, str(status), _token_label(token)).inc()
    REQUEST_SECONDS.labels(route).observe(seconds)


def count_not_modified(route: str, token: str) -> None:
    """Count a poll that was answered 304 Not Modified."""
    REQUESTS.labels(route, "GET", "304", _token_label(token)).inc()


def count_preflight(route: str) -> None:
    """Count a browser's question whether a page may send a request."""
    REQUESTS.labels(route, "OPTIONS", "204", _token_label("-")).inc()


def count_task(kind: str, outcome: str) -> None:
    """Count a task that ended before a worker started it."""
    TASKS.labels(kind, outcome).inc()


def _token_label(token: str) -> str:
    """Return the label of an API token. Their number is limited, so that a scrape stays small."""
    if token not in _tokens:
        if len(_tokens) >= MAX_TOKENS:
            return OTHER
        _tokens.add(token)
    return token
