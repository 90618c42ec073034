"""The one place where an exception becomes a response; every error has llama.cpp's body shape."""

from __future__ import annotations

import json
import logging

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from graycat.errors import BodyTooLarge, GraycatError, LimitExceeded, RequestError
from graycat.web.streaming.requests import ClientGone

logger = logging.getLogger(__name__)

#: Bytes of a refused body that are read and thrown away, so that its client reads the answer, not a broken pipe.
DRAIN_LIMIT = 64 * 1024 * 1024
#: What nobody reads: the client is gone (nginx's number).
CLIENT_GONE = 499

#: Routes whose clients read the SD WebUI's errors.
WEBUI_PATHS = "/sdapi/"

#: llama.cpp's type of an error, by status.
HTTP_TYPES = {404: "not_found_error", 405: "method_not_allowed"}


def error_response(error: GraycatError) -> Response:
    """Return an error as its caller reads it."""
    body = webui_body(error.encoded()) if request.path.startswith(WEBUI_PATHS) else error.encoded()
    response = Response(body, error.status, content_type="application/json; charset=utf-8")
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, LimitExceeded):
        response.headers.update(error.headers)
    return response


def webui_body(body: bytes) -> bytes:
    """Return an error's body as clients of the SD WebUI read it; an engine's own is that already.

    One of its route errors, with graycat's ``type`` beside.
    """
    try:
        inner = json.loads(body)["error"]
        shown = {"error": "HTTPException", "detail": inner["message"], "body": "", "errors": "", "type": inner["type"]}
    except (ValueError, KeyError, TypeError):
        return body
    return json.dumps(shown).encode()


def init_app(app: Flask) -> None:
    """Register the handlers."""
    app.register_error_handler(GraycatError, error_response)
    app.register_error_handler(ClientGone, lambda _: Response(status=CLIENT_GONE))
    app.register_error_handler(RequestEntityTooLarge, _too_large)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)


def _too_large(_: RequestEntityTooLarge) -> Response:
    length = request.content_length
    if length is not None and length <= DRAIN_LIMIT:
        source = request.environ["wsgi.input"]
        while source.read(65536):
            pass
    return error_response(BodyTooLarge("the request body is larger than this server takes"))


def _http_error(error: HTTPException) -> Response:
    ours = RequestError(f"{request.method} {request.path}: {error.name}")
    ours.status = error.code or 500
    ours.type = HTTP_TYPES.get(ours.status, "invalid_request_error")
    response = error_response(ours)
    if request.path.startswith(WEBUI_PATHS):
        response.set_data(json.dumps({"detail": error.name}))
    response.headers.extend((name, value) for name, value in error.get_headers() if name == "Allow")
    return response


def _unexpected(error: Exception) -> Response:
    logger.error("unexpected error", exc_info=error, extra={"route": request.url_rule})
    return error_response(GraycatError("an unexpected error; the server's log has it under this request's id"))
