"""Turns exceptions into responses, all in llama.cpp's form; for clients of the SD WebUI in that one's form."""

from __future__ import annotations

import json
import logging

import redis
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from graycat.auth.errors import ConflictingCredentials, InvalidToken
from graycat.bounds.stored import parse_json
from graycat.broker.client import unavailable_reason
from graycat.broker.wrong_types import is_wrong_type, may_move, move_aside, named_key
from graycat.errors import (
    BrokerKeyUnusable,
    BrokerUnavailable,
    GraycatError,
    LimitExceeded,
    RequestError,
    Unauthorized,
)
from graycat.front.errors import UnsupportedEncoding
from graycat.loops.unexpected import guarded
from graycat.queue.key_types import owner_types
from graycat.web.big_bodies import too_large
from graycat.web.retries import retry_headers
from graycat.web.services import services
from graycat.web.streaming.requests import ClientDisconnected
from graycat.web.unknown_routes import explain

logger = logging.getLogger(__name__)

#: nginx's status for a client that has gone; it appears in logs and metrics only.
CLIENT_CLOSED_REQUEST = 499

#: Routes whose clients expect the SD WebUI's errors.
WEBUI_PATHS = "/sdapi/"

#: llama.cpp's ``type`` of an error, by status.
HTTP_TYPES = {404: "not_found_error", 405: "method_not_allowed"}


def error_response(error: GraycatError) -> Response:
    """Return the response for an error, in the form that the request's route answers."""
    body = error.encoded()
    if request.path.startswith(WEBUI_PATHS):
        body = to_webui_error(body)
    response = Response(body, error.status, content_type="application/json; charset=utf-8")
    response.headers.update(retry_headers(error))
    if isinstance(error, LimitExceeded):
        response.headers.update(error.headers)
    if isinstance(error, UnsupportedEncoding):
        # RFC 9110, section 12.5.3: which encodings of bodies are taken.
        response.headers["Accept-Encoding"] = "identity"
    if isinstance(error, (Unauthorized, ConflictingCredentials)):
        _add_challenges(response, error)
    return response


def _add_challenges(response: Response, error: RequestError) -> None:
    """Say how an API token is sent, and what is wrong with the one that was (RFC 6750)."""
    challenge = 'Bearer realm="graycat"'
    # A request without any token gets no code of an error.
    if isinstance(error, InvalidToken):
        challenge += f', error="invalid_token", error_description="{error}"'
    elif isinstance(error, ConflictingCredentials):
        challenge += f', error="invalid_request", error_description="{error}"'
    response.headers.add("WWW-Authenticate", challenge)
    if request.path.startswith(WEBUI_PATHS):
        response.headers.add("WWW-Authenticate", 'Basic realm="graycat"')


def to_webui_error(body: bytes) -> bytes:
    """Return an error's body in the form of the SD WebUI's route errors, with graycat's ``type`` added.

    The body of an engine's own error has that form already and is returned unchanged.
    """
    try:
        inner = parse_json(body)["error"]
        webui_error = {
            "error": "HTTPException",
            "detail": inner["message"],
            "body": "",
            "errors": "",
            "type": inner["type"],
        }
    except (ValueError, KeyError, TypeError):
        return body
    return json.dumps(webui_error).encode()


def init_app(app: Flask) -> None:
    """Register the error handlers of an application."""
    app.register_error_handler(GraycatError, error_response)
    app.register_error_handler(BrokerUnavailable, _broker_unavailable)
    app.register_error_handler(redis.ResponseError, _error_reply)
    app.register_error_handler(ClientDisconnected, _client_disconnected)
    app.register_error_handler(RequestEntityTooLarge, _too_large)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)


def _broker_unavailable(error: BrokerUnavailable) -> Response:
    """Answer that the broker cannot be used. Only the log says why: that is the operator's business."""
    logger.warning("broker unavailable", extra={"reason": unavailable_reason(error), "route": request.url_rule})
    return error_response(error)


def _error_reply(error: redis.ResponseError) -> Response:
    """Answer a request that met a key of another type than graycat's, and move that key aside for the next one."""
    if not is_wrong_type(error):
        return _unexpected(error)
    logger.warning("key of the wrong type", extra={"route": request.url_rule})
    types = named_key(error)
    if "owner" in g:
        # Who reads a list of an owner's own gets no name.
        types |= owner_types(g.owner)
    with guarded("wrong keys"):
        if may_move(services().settings):
            move_aside(services().broker, types)
    return error_response(BrokerKeyUnusable())


def _client_disconnected(_: ClientDisconnected) -> Response:
    return Response(status=CLIENT_CLOSED_REQUEST)


def _too_large(_: RequestEntityTooLarge) -> Response:
    return error_response(too_large())


def _http_error(error: HTTPException) -> Response:
    translated = RequestError(explain(error))
    translated.status = error.code or 500
    translated.type = HTTP_TYPES.get(translated.status, "invalid_request_error")
    response = error_response(translated)
    if request.path.startswith(WEBUI_PATHS):
        response.set_data(json.dumps({"detail": error.name}))
    for name, value in error.get_headers():
        if name == "Allow":
            response.headers.add(name, value)
    return response


def _unexpected(error: Exception) -> Response:
    logger.error("unexpected error", exc_info=error, extra={"route": request.url_rule})
    return error_response(GraycatError("an unexpected error; the server's log has it under this request's id"))
