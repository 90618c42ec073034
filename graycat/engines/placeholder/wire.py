"""HTTP as the WebUI's framework speaks it: how bodies are read and errors, redirects and compression look."""

from __future__ import annotations

import gzip
import json
import logging
import time
from collections.abc import Sequence
from typing import Any

from flask import Flask, Response, current_app, g, request
from werkzeug.exceptions import HTTPException as RoutingError
from werkzeug.exceptions import MethodNotAllowed, NotFound

from graycat.engines.placeholder import schema
from graycat.engines.placeholder.errors import HTTPException, error_body
from graycat.engines.placeholder.jobs import in_thread
from graycat.engines.placeholder.schema import Field, Invalid

logger = logging.getLogger(__name__)

#: Bodies from this many bytes on are compressed for clients that accept it.
GZIP_FROM = 1000
#: Images in base64 shrink by a quarter at any level; this one is the fastest.
GZIP_LEVEL = 1


def reply(body: Any, status: int = 200) -> Response:
    """Return a JSON response, keys in the order they have. Raises ValueError for what JSON has no word for."""
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode(), status, content_type="application/json")


def read_json() -> Any:
    """Return the parsed body. Raises Invalid, and HTTPException 400 for what is no text."""
    try:
        return schema.parse(request.get_data(cache=False), request.headers.get("Content-Type", ""))
    except schema.UnreadableBody:
        raise HTTPException(400, "There was an error parsing the body") from None


def read_fields(fields: Sequence[Field]) -> tuple[dict[str, Any], set[str]]:
    """Return the body's fields, coerced and with defaults, and which of them it had. Raises as ``read_json``."""
    body = read_json()
    values = schema.validated(body, schema.model(fields))
    return values, {field.name for field in fields if field.name in dict(body)}


def answer_invalid(error: Invalid) -> Response:
    """Return the 422 of a body that does not fit."""
    return reply({"detail": [problem.item() for problem in error.problems]}, 422)


def answer_routing(error: RoutingError) -> Response:
    """Return the 404 or 405 of a path or method that is not there; the 307 of one with a slash too many."""
    path = request.path.rstrip("/")
    if isinstance(error, NotFound) and path != request.path and _adapter_allows(path):
        query = f"?{request.query_string.decode('latin-1')}" if request.query_string else ""
        return Response(status=307, headers={"Location": request.host_url.rstrip("/") + path + query})
    response = reply({"detail": error.name}, error.code or 500)
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(sorted(set(error.valid_methods) - {"HEAD", "OPTIONS"}))
    return response


def _adapter_allows(path: str) -> bool:
    return bool(current_app.url_map.bind("").allowed_methods(path))


def answer_error(error: Exception) -> Response:
    """Return the response to any other exception; without its text in the log, which may hold a prompt."""
    body, status = error_body(error)
    if not isinstance(error, HTTPException):
        logger.warning("%s %s failed: %s", request.method, request.path, body["error"])
    return reply(body, status)


def refuse_head() -> None:
    """Raise MethodNotAllowed for HEAD, which Flask would take for GET."""
    if request.method == "HEAD" and request.routing_exception is None:
        raise MethodNotAllowed(valid_methods=["GET"])


def finish(response: Response) -> Response:
    """Add the time it took, and compress what is large."""
    response.headers["X-Process-Time"] = str(round(time.monotonic() - g.began, 4))
    body = response.get_data()
    if len(body) >= GZIP_FROM and "gzip" in request.headers.get("Accept-Encoding", ""):
        response.set_data(in_thread(gzip.compress, body, GZIP_LEVEL))
        response.headers["Content-Encoding"] = "gzip"
        response.headers.add("Vary", "Accept-Encoding")
    return response


def install(app: Flask) -> None:
    """Have an application speak like this."""
    app.url_map.merge_slashes = False

    @app.before_request
    def begin() -> None:
        g.began = time.monotonic()

    app.before_request(refuse_head)
    app.after_request(finish)
    app.register_error_handler(Invalid, answer_invalid)
    app.register_error_handler(RoutingError, answer_routing)
    app.register_error_handler(Exception, answer_error)
