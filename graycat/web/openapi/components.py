"""Parts that several operations of the OpenAPI document share."""

from __future__ import annotations

from typing import Any

JSON = "application/json"
#: The schemas of errors: in llama.cpp's form, and in the WebUI's form for its clients.
ERROR = {"$ref": "#/components/schemas/Error"}
WEBUI_ERROR = {"$ref": "#/components/schemas/WebuiError"}

#: What each error status means to a caller; docs/errors.md has the details.
ERRORS = {
    400: "The request cannot be used; the message says why.",
    401: "The API token is missing, unknown, revoked or expired; the message says which.",
    403: "The API token lacks the scope that the route needs.",
    404: "The route, the task, or the model that the request names does not exist.",
    405: "The route does not accept this method.",
    408: "The request did not arrive in time.",
    409: "The request conflicts with what exists already; the message says why.",
    410: "It has ended, and its result or events are no longer stored.",
    413: "The body, or a text or an image in it, is too large.",
    414: "The request's path is too long.",
    415: "The body has an encoding that is not supported: send it as it is.",
    417: "The server does not do what Expect asks for.",
    422: "The engine refuses this body; its answer says what is wrong.",
    429: "The API token is over one of its limits; Retry-After and RateLimit-* say when to try again.",
    431: "The request's headers are too large.",
    499: "The task was cancelled while its caller waited.",
    500: "The engine failed to serve this request.",
    501: "The engine does not offer this.",
    502: "The engine was lost before its answer was complete.",
    503: "Nothing can serve this request now; Retry-After says when to try again.",
    504: "The task exceeded its deadline.",
}
#: Error statuses of routes that run a task.
TASK_ERRORS = (400, 401, 403, 404, 405, 413, 429, 499, 500, 501, 502, 503, 504)
#: Error statuses of views that run none and need an API token.
VIEW_ERRORS = (401, 403, 404, 405, 429, 500, 503)

PREFER = {
    "name": "Prefer",
    "in": "header",
    "schema": {"type": "string", "enum": ["respond-async"]},
    "description": "Answer at once, with 202 and the task's address.",
}
ACCEPTED = {"202": {"description": "Accepted, with the task's id and address.", "content": {JSON: {}}}}

#: The usual one is last: of Swagger UI's dialog, the last field has the focus.
SECURITY_SCHEMES = {
    "password": {"type": "http", "scheme": "basic", "description": "Any user name, the API token as the password."},
    "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": "The API token in another header."},
    "token": {"type": "http", "scheme": "bearer", "description": "The API token alone, without 'Bearer' before it."},
}


def answer(*content_types: str, description: str = "The answer.") -> dict[str, Any]:
    """Return the response of a success, in one of several content types. A JSON answer gets its schema later."""
    return {"200": {"description": description, "content": {name: _media(name) for name in content_types}}}


def _media(content_type: str) -> dict[str, Any]:
    if content_type.startswith("image/") or content_type == "application/zip":
        return {"schema": {"type": "string", "format": "binary"}}
    if content_type in ("text/html", "text/plain", "application/x-ndjson"):
        return {"schema": {"type": "string"}}
    return {}


def errors(statuses: tuple[int, ...], schema: dict[str, str] = ERROR) -> dict[str, Any]:
    """Return the responses of some error statuses."""
    responses = {}
    for status in sorted(set(statuses)):
        responses[str(status)] = {"description": ERRORS[status], "content": {JSON: {"schema": schema}}}
    return responses


def schemas() -> dict[str, Any]:
    """Return the schemas of errors."""
    properties = {"code": {"type": "integer"}, "message": {"type": "string"}, "type": {"type": "string"}}
    inner = {"type": "object", "properties": properties, "required": list(properties)}
    webui = {
        "error": {"type": "string", "description": "The class of the error."},
        "detail": {"type": "string", "description": "What is wrong."},
        "errors": {"type": "string", "description": "The engine's own message."},
        "type": {"type": "string", "description": "graycat's type of the error; an engine's own error has none."},
    }
    return {
        "Error": {"type": "object", "properties": {"error": inner}},
        "WebuiError": {"type": "object", "properties": webui},
    }
