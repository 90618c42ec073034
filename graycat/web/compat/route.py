"""One inference route: what it checks, how it runs, how its answer looks. The tables are beside this file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, request

from graycat import params
from graycat.auth.tokens import ADMIN, LLM
from graycat.errors import BodyTooLarge, ModelNotFound
from graycat.queue.kinds import GATHER, PLAIN, STREAM, Kind
from graycat.queue.topology import model_queue
from graycat.web.auth import scope_required, token_auth
from graycat.web.limits import most_tokens
from graycat.web.services import services
from graycat.web.streaming.formats import NATIVE, Dialect
from graycat.web.streaming.responses import respond


@dataclass(frozen=True)
class Route:
    """An engine's route on our wire; the first path is the engine's own, the others are its aliases.

    ``check`` raises RequestError for a body that graycat itself refuses. ``gatherable`` tells of a body whose whole
    answer can be put together from its stream. ``reshape`` changes a whole answer for a client that needs it.
    ``length_field``: what every engine reads on this route as the most tokens of an answer. ``by_model``: the body's
    ``model`` chooses among the workers. ``fields``, ``required`` and ``tag`` are for the documentation.
    """

    kind: Kind
    paths: tuple[str, ...]
    summary: str
    dialect: Dialect = NATIVE
    streams: bool = False
    length_field: str = ""
    by_model: bool = False
    admin: bool = False
    check: Callable[[dict[str, Any]], None] | None = None
    gatherable: Callable[[dict[str, Any]], bool] | None = None
    reshape: Callable[[bytes], bytes] | None = None
    fields: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    tag: str = "llama.cpp"

    def answer(self) -> Response:
        """Answer the current request: refuse it, or run its task."""
        if self.kind.method == "GET":
            return respond(self.kind, self.kind.queue, PLAIN, b"{}", self.dialect)
        raw = read_raw()
        body = params.read_json(raw) if self.admin else params.read_object(raw)
        queue, mode, raw = self.prepare(body, raw)
        response = respond(self.kind, queue, mode, raw, self.dialect)
        if self.reshape is not None and mode != STREAM and response.status_code == 200:
            response.set_data(self.reshape(response.get_data()))
        return response

    def prepare(self, body: Any, raw: bytes) -> tuple[str, str, bytes]:
        """Return the queue, the mode and the engine's body for a request's body. Raises RequestError."""
        if isinstance(body, dict):
            params.check_size(body, services().settings.max_prompt_chars)
            if self.check is not None:
                self.check(body)
        body, raw = self._capped(body, raw)
        mode, raw = self._plan(body, raw)
        return self._queue(body), mode, raw

    def _capped(self, body: Any, raw: bytes) -> tuple[Any, bytes]:
        """Return the body with the length that the caller's API token allows; its own bytes where it says one."""
        most = most_tokens() if self.length_field else None
        if most is None:
            return body, raw
        capped = params.cap_tokens(body, self.length_field, most)
        return capped, raw if capped is body else json.dumps(capped).encode()

    def _plan(self, body: Any, raw: bytes) -> tuple[str, bytes]:
        """Return how the worker calls the engine, and the body it sends: the caller's own bytes wherever possible."""
        if self.streams and params.streams(body):
            return STREAM, raw
        if self.gatherable is not None and self.gatherable(body):
            # A stream stops at once when it is hung up; a plain call to llama.cpp may run on to its end.
            return GATHER, json.dumps(body | {"stream": True}).encode()
        return PLAIN, raw

    def _queue(self, body: Any) -> str:
        """Return the kind's queue, or that of the model which the body names. Raises ModelNotFound."""
        model = body.get("model") if self.by_model and isinstance(body, dict) else None
        if not model or not isinstance(model, str):
            return self.kind.queue
        workers = [w for w in services().workers() if self.kind.queue in w.queues and w.models]
        having = [w for w in workers if model in w.models]
        if workers and not having:
            raise ModelNotFound(model)
        return self.kind.queue if len(having) == len(workers) else model_queue(self.kind.queue, model)


def read_raw() -> bytes:
    """Return the request's body. Raises BodyTooLarge also for a chunked one, which werkzeug cuts off silently."""
    raw = request.get_data(cache=False)
    if request.content_length is None and len(raw) >= (request.max_content_length or 0):
        raise BodyTooLarge("the request body is larger than this server takes")
    return raw


def add_routes(bp: Blueprint, routes: Sequence[Route]) -> None:
    """Register a table of routes, all behind an API token."""
    for route in routes:
        view = token_auth.login_required(scope_required(ADMIN if route.admin else LLM)(route.answer))
        for place, path in enumerate(route.paths):
            endpoint = route.kind.name.removeprefix("llm.") + (f"_{place}" if place else "")
            bp.add_url_rule(path, endpoint, view, methods=[route.kind.method])
