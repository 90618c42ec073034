"""Answers polls of unchanged tasks with 304 before Flask sees them.

Most polls are answered 304. Through Flask that costs five times as much CPU (docs/performance.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import redis

from graycat.auth.authenticator import Authenticator
from graycat.broker import keys
from graycat.broker.connections import RawConnectionPool
from graycat.broker.protocol import Broker
from graycat.errors import GraycatError
from graycat.metrics import web as metrics
from graycat.queue.ids import TASK_ID
from graycat.queue.models import TERMINAL_STATES
from graycat.web.api.task_requests import CHOSEN_ID, scoped_ids
from graycat.web.api.task_views import etag, is_overdue
from graycat.web.middleware.request import REQUEST_ID

_PATH = re.compile(rf"/tasks/({CHOSEN_ID.pattern})")
_FIELDS = ("owner", "state", "attempt", "progress", "queue_deadline_ms")
#: How the entity tag of a task that has ended begins.
_TERMINAL_TAGS = tuple(f'"{state}-' for state in TERMINAL_STATES)

#: The URL rule under which these requests are counted in the metrics.
ROUTE = "/tasks/<task_id>"

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class NotModifiedMiddleware:
    """WSGI middleware that answers ``GET /tasks/{id}`` if its ``If-None-Match`` is current.

    All other requests go to the application.
    """

    def __init__(self, app: WsgiApp, broker: Broker, authenticator: Authenticator) -> None:
        self._app = app
        self._connections = RawConnectionPool(broker)
        self._authenticator = authenticator

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, or pass it to the application."""
        known_tag = environ.get("HTTP_IF_NONE_MATCH")
        if not known_tag or environ["REQUEST_METHOD"] != "GET" or environ.get("QUERY_STRING"):
            return self._app(environ, start_response)
        path = _PATH.fullmatch(environ.get("PATH_INFO", ""))
        if path is None:
            return self._app(environ, start_response)
        current = self._current_tag(environ, path[1])
        if current is None or current[0] != known_tag:
            return self._app(environ, start_response)

        metrics.count_not_modified(ROUTE, current[1])
        headers = [("ETag", known_tag), ("Cache-Control", "private, no-cache")]
        if not known_tag.startswith(_TERMINAL_TAGS):
            headers.append(("Retry-After", "1"))
        request_id = environ.get("HTTP_X_REQUEST_ID", "")
        if REQUEST_ID.fullmatch(request_id):
            headers.append(("X-Request-ID", request_id))
        start_response("304 NOT MODIFIED", headers)
        return []

    def _current_tag(self, environ: dict[str, Any], task_id: str) -> tuple[str, str] | None:
        """Return the entity tag of the caller's task, and the API token on whose account the poll is counted.

        None if the application has to handle the request.
        """
        scheme, _, secret = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        # With another header there may be two tokens.
        if scheme.lower() != "bearer" or "HTTP_X_API_KEY" in environ:
            return None
        try:
            token = self._authenticator.find(secret.strip())
            if token is None:
                return None
            candidates = [task_id]
            if not TASK_ID.fullmatch(task_id):
                candidates = list(scoped_ids(token.name, task_id).values())
            commands = [("HMGET", keys.record_key(candidate), *_FIELDS) for candidate in candidates]
            rows = self._connections.run(commands)
        except (redis.RedisError, GraycatError):
            return None

        row = next((row for row in rows if row[0]), rows[0])
        record = {name: value.decode() for name, value in zip(_FIELDS, row, strict=True) if value}
        # A task that is past its queue deadline must be expired, which the application does.
        if record.get("owner") != token.name or is_overdue(record):
            return None
        return etag(record), (token.parent or token).name
