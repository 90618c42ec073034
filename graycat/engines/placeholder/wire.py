"""HTTP as the WebUI's framework (FastAPI) does it: request bodies, errors, redirects and compression."""

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
from graycat.engines.placeholder.jobs import run_in_thread
from graycat.engines.placeholder.schema import Field, Invalid

logger = logging.getLogger(__name__)

#: FastAPI's words.
UNREADABLE = "There was an error parsing the body"
#: Responses of this size or more are compressed for clients that accept it.
MIN_GZIP_BYTES = 1000
#: Images in base64 shrink by a quarter at any level; this one is the fastest.
GZIP_LEVEL = 1


def reply(body: Any, status: int = 200) -> Response:
    """Return a JSON response; keys keep their order. Raises ValueError for values that JSON cannot express."""
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode(), status, content_type="application/json")


def read_json() -> Any:
    """Return the parsed body. Raises Invalid, and HTTPException 400 for a body that is not text, or is cut off."""
    try:
        raw = request.get_data(cache=False)
    except (OSError, ValueError):
        # gevent's errors for chunks that are none.
        raise HTTPException(400, UNREADABLE) from None
    try:
        return schema.parse(raw, request.headers.get("Content-Type", ""))
    except schema.UnreadableBody:
        raise HTTPException(400, UNREADABLE) from None


def read_fields(fields: Sequence[Field]) -> tuple[dict[str, Any], set[str]]:
    """Return the body's fields, coerced and with defaults, and the names of those that it contained.

    Raises the errors of ``read_json``.
    """
    body = read_json()
    values = schema.validate(body, schema.model(fields))
    names = {field.name for field in fields}
    return values, names.intersection(dict(body))


def handle_invalid(error: Invalid) -> Response:
    """Return the 422 response to an invalid body."""
    return reply({"detail": [problem.to_dict() for problem in error.problems]}, 422)


def handle_routing_error(error: RoutingError) -> Response:
    """Return the 404 or 405 response to an unknown path or method; a 307 if the path only has a slash too many."""
    path = request.path.rstrip("/")
    if isinstance(error, NotFound) and path != request.path and _path_exists(path):
        location = request.host_url.rstrip("/") + path
        if request.query_string:
            location += f"?{request.query_string.decode('latin-1')}"
        return Response(status=307, headers={"Location": location})
    response = reply({"detail": error.name}, error.code or 500)
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(sorted(set(error.valid_methods) - {"HEAD", "OPTIONS"}))
    return response


def _path_exists(path: str) -> bool:
    return bool(current_app.url_map.bind("").allowed_methods(path))


def handle_error(error: Exception) -> Response:
    """Return the response to any other exception. Its text may contain a prompt, so the log does not get it."""
    body, status = error_body(error)
    if not isinstance(error, HTTPException):
        logger.warning("%s %s failed: %s", request.method, request.path, body["error"])
    return reply(body, status)


def refuse_head() -> None:
    """Raise MethodNotAllowed for HEAD, which Flask would handle like GET."""
    if request.method == "HEAD" and request.routing_exception is None:
        raise MethodNotAllowed(valid_methods=["GET"])


def finish_response(response: Response) -> Response:
    """Add the time that the request took, and compress a large body."""
    response.headers["X-Process-Time"] = str(round(time.monotonic() - g.started, 4))
    body = response.get_data()
    if len(body) >= MIN_GZIP_BYTES and "gzip" in request.headers.get("Accept-Encoding", ""):
        response.set_data(run_in_thread(gzip.compress, body, GZIP_LEVEL))
        response.headers["Content-Encoding"] = "gzip"
        response.headers.add("Vary", "Accept-Encoding")
    return response


def install(app: Flask) -> None:
    """Make an application handle requests, responses and errors in this way."""
    app.url_map.merge_slashes = False

    @app.before_request
    def record_start() -> None:
        g.started = time.monotonic()

    app.before_request(refuse_head)
    app.after_request(finish_response)
    app.register_error_handler(Invalid, handle_invalid)
    app.register_error_handler(RoutingError, handle_routing_error)
    app.register_error_handler(Exception, handle_error)
