"""One inference route: what it checks, how its task runs, and what its answer looks like.

The tables of routes are in llamacpp.py, openai.py and anthropic.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, request

from graycat import params
from graycat.auth.tokens import ADMIN
from graycat.bounds.body import check_bounds
from graycat.errors import ModelNotFound, ModelNotReady
from graycat.fleet.model_names import ChosenModel, choose_model
from graycat.queue.kinds import GATHER, PLAIN, STREAM, Kind
from graycat.queue.topology import model_queue
from graycat.redaction.paths import model_name
from graycat.web.auth import scope_required, token_auth
from graycat.web.big_bodies import too_large, wait_for_turn
from graycat.web.compat.field_types import check_types
from graycat.web.compat.unsupported import check_supported, wants_tools
from graycat.web.encoding import JsonWriter
from graycat.web.limits import token_limit
from graycat.web.services import services
from graycat.web.streaming.formats import LLAMACPP, StreamFormat
from graycat.web.streaming.responses import respond


@dataclass(frozen=True)
class Route:
    """A route of an engine, as graycat offers it. The first path is the engine's own, the others are its aliases.

    ``check`` raises RequestError for a body that graycat itself refuses. ``gatherable`` returns whether the whole
    answer to a body can be built from its stream. ``reshape`` changes a whole answer for a client that needs it.
    ``last_answer`` returns what an engine last answered to a GET, None if that is not known: then the engine is asked.
    ``length_field`` names the field in which every engine reads the most tokens of an answer on this route.
    ``by_model``: a ``model`` that no worker has is refused; on other routes such a name is left to the engine.
    ``fields`` and ``required`` are for the OpenAPI document.
    """

    kind: Kind
    paths: tuple[str, ...]
    summary: str
    stream_format: StreamFormat = LLAMACPP
    streams: bool = False
    length_field: str = ""
    by_model: bool = False
    admin: bool = False
    check: Callable[[dict[str, Any]], None] | None = None
    gatherable: Callable[[dict[str, Any]], bool] | None = None
    reshape: Callable[[bytes], bytes] | None = None
    last_answer: Callable[[], Response | None] | None = None
    fields: tuple[str, ...] = ()
    required: tuple[str, ...] = ()

    def answer(self) -> Response:
        """Answer the current request: refuse it, or run its task."""
        if self.kind.method == "GET":
            last = None if self.last_answer is None else self.last_answer()
            return last or respond(self.kind, self.kind.queue, PLAIN, b"{}", self.stream_format)

        raw = read_body()
        read = params.read_object
        if self.admin:
            read = params.read_json
        body = read(raw, services().settings.max_json_depth)
        queue, mode, raw = self.prepare(body, JsonWriter(raw), raw)
        response = respond(self.kind, queue, mode, raw, self.stream_format)
        if self.reshape is not None and mode != STREAM and response.status_code == 200:
            response.set_data(self.reshape(response.get_data()))
        return response

    def prepare(self, body: Any, writer: JsonWriter, raw: bytes | None = None) -> tuple[str, str, bytes]:
        """Return the queue, the mode and the engine's body for a request's body. Raises RequestError.

        ``raw``: the caller's own bytes of the body, which the engine gets if nothing in it changes; None if it is a
        part of what the caller sent.
        """
        wait_for_turn(writer.size)
        chosen = body
        queue = self.kind.queue
        if isinstance(body, dict):
            self.check_limits(body)
            check_types(self.kind, body)
            if self.check is not None:
                self.check(body)
            queue, chosen = self._choose_queue(body)
        mode, sent = self._choose_mode(self._limit_length(chosen))
        if raw is None or sent is not body:
            wait_for_turn(writer.size)
            raw = writer.write(sent).encode()
        return queue, mode, raw

    @staticmethod
    def check_limits(body: dict[str, Any]) -> None:
        """Check a body against the limits of any text request. Raises PromptTooLarge, TooComplex, RequestError."""
        settings = services().settings
        params.check_size(body, settings.max_prompt_chars)
        check_bounds(body, settings)

    def fit_stored(self, body: dict[str, Any], raw: bytes) -> bytes:
        """Return the engine's body of a task that is to run again, within today's limits. Raises what a submit does."""
        self.check_limits(body)
        limited = self._limit_length(body)
        if limited is body:
            return raw
        return json.dumps(limited).encode()

    def _limit_length(self, body: Any) -> Any:
        """Return the body with the length that the caller's API token allows; the same object if that fits."""
        if not self.length_field:
            return body
        limit = token_limit()
        if limit is None:
            return body
        return params.cap_tokens(body, self.length_field, limit)

    def _choose_mode(self, body: Any) -> tuple[str, Any]:
        """Return how the worker calls the engine, and the body that it sends: the same object if possible."""
        if self.streams and params.streams(body):
            return STREAM, body
        if self.gatherable is not None and self.gatherable(body):
            # llama.cpp stops a stream at once when the client disconnects, but may run a plain call to its end.
            return GATHER, body | {"stream": True}
        return PLAIN, body

    def _choose_queue(self, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the kind's queue, or that of the model which the body names, and the body with the model's own name.

        It is the same object if that name is not an alias. Raises ModelNotFound, ModelNotReady, UnsupportedParameter.
        """
        wanted = body.get("model")
        if not isinstance(wanted, str):
            wanted = ""
        if not wanted and not wants_tools(body):
            # Most requests of games: nothing depends on the fleet.
            check_supported(self.kind, body, ())
            return self.kind.queue, body
        chosen = self._choose_model(wanted)
        check_supported(self.kind, body, chosen.workers)
        if wanted and not chosen.workers and services().settings.serves_unknown_models:
            # Nobody has told what there is, and a worker would refuse a name that its engine does not have.
            return self.kind.queue, {name: value for name, value in body.items() if name != "model"}
        if chosen.name and chosen.name != model_name(wanted):
            body = body | {"model": chosen.name}
        if chosen.is_everywhere:
            return self.kind.queue, body
        return model_queue(self.kind.queue, chosen.name), body

    def _choose_model(self, wanted: str) -> ChosenModel:
        """Return the model that a name means on this route. Raises ModelNotFound, ModelNotReady."""
        chosen = choose_model(wanted, self.kind.queue, services().workers(), services().settings)
        if chosen.is_known:
            return chosen
        if not self.by_model:
            # A server of llama.cpp's own routes takes any name.
            return choose_model("", self.kind.queue, services().workers(), services().settings)
        if chosen.may_come:
            raise ModelNotReady(wanted)
        raise ModelNotFound(chosen.name, wanted if chosen.name != model_name(wanted) else "")


def read_body() -> bytes:
    """Return the request's body. Raises BodyTooLarge, also for a chunked body, which werkzeug cuts off silently."""
    raw = request.get_data(cache=False)
    if request.content_length is None and len(raw) >= (request.max_content_length or 0):
        raise too_large()
    wait_for_turn(len(raw))
    return raw


def read_object(*, is_document: bool = False) -> dict[str, Any]:
    """Return the JSON object of the request's body. Raises RequestError, TooComplex, BodyTooLarge.

    ``is_document``: as for ``params.read_json``.
    """
    return params.read_object(read_body(), services().settings.max_json_depth, is_document=is_document)


def add_routes(bp: Blueprint, routes: Sequence[Route]) -> None:
    """Register a table of routes; each requires an API token."""
    for route in routes:
        scope = route.kind.family.scope
        if route.admin:
            scope = ADMIN
        view = token_auth.login_required(scope_required(scope)(route.answer))
        endpoint = route.kind.name.removeprefix(f"{route.kind.family.name}.")
        for index, path in enumerate(route.paths):
            alias = endpoint
            if index > 0:
                alias = f"{endpoint}_{index}"
            bp.add_url_rule(path, alias, view, methods=[route.kind.method])
