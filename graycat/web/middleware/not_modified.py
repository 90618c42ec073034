"""The short way for pollers: a task that has not changed is answered before Flask begins.

Most of what pollers ask is answered 304. Through Flask that costs five times as much (docs/performance.md).
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
from graycat.web.api.task_requests import CHOSEN_ID, scoped_ids
from graycat.web.api.task_views import etag, overdue

_PATH = re.compile(rf"/tasks/({CHOSEN_ID.pattern})")
_GIVEN_ID = re.compile("[0-9a-f]{32}")
_FIELDS = ("owner", "state", "attempt", "progress", "queue_deadline_ms")

#: What its requests are counted as.
ROUTE = "/tasks/<task_id>"

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class NotModifiedMiddleware:
    """WSGI middleware: answers ``GET /tasks/{id}`` with a current ``If-None-Match``; all else goes on to the app."""

    def __init__(self, app: WsgiApp, client: Broker, tokens: Authenticator) -> None:
        self._app = app
        self._lanes = RawConnectionPool(client)
        self._tokens = tokens

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, or have the application do it."""
        wanted = environ.get("HTTP_IF_NONE_MATCH")
        if wanted and environ["REQUEST_METHOD"] == "GET" and not environ.get("QUERY_STRING"):
            found = _PATH.fullmatch(environ.get("PATH_INFO", ""))
            current = self._current(environ, found[1]) if found else None
            if current is not None and current[0] == wanted:
                metrics.unchanged(ROUTE, current[1])
                headers = [("ETag", wanted), ("Cache-Control", "private, no-cache")]
                if not wanted.startswith(_ENDED):
                    headers.append(("Retry-After", "1"))
                if request_id := environ.get("HTTP_X_REQUEST_ID"):
                    headers.append(("X-Request-ID", request_id))
                start_response("304 NOT MODIFIED", headers)
                return []
        return self._app(environ, start_response)

    def _current(self, environ: dict[str, Any], task_id: str) -> tuple[str, str] | None:
        """Return the tag of the caller's task, and the API token on whose account it is asked for.

        None where the application has to look at the request itself.
        """
        scheme, _, secret = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            token = self._tokens.find(secret.strip())
            if token is None:
                return None
            named = [task_id] if _GIVEN_ID.fullmatch(task_id) else scoped_ids(token.name, task_id).values()
            rows = self._lanes.run([("HMGET", keys.record_key(name), *_FIELDS) for name in named])
        except (redis.RedisError, GraycatError):
            return None
        row = next((row for row in rows if row[0]), rows[0])
        record = {name: value.decode() for name, value in zip(_FIELDS, row, strict=True) if value}
        # One that has waited too long is to end.
        if record.get("owner") != token.name or overdue(record):
            return None
        return etag(record), (token.parent or token).name


_ENDED = tuple(f'"{state}-' for state in ("succeeded", "failed", "cancelled", "expired"))
