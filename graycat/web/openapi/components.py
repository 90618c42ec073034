"""What the operations of the OpenAPI document are made of."""

from __future__ import annotations

from typing import Any

JSON = "application/json"
#: How errors look: as llama.cpp's, and where clients of the WebUI read them, as its.
ERROR = {"$ref": "#/components/schemas/Error"}
WEBUI_ERROR = {"$ref": "#/components/schemas/WebuiError"}

#: What each error status means to a caller; docs/errors.md tells more.
ERRORS = {
    400: "The request cannot be used; the message says why.",
    401: "The API token is missing or unknown.",
    403: "The API token lacks the scope that the route needs.",
    404: "There is no such thing: a route, a task, or the model that the request names.",
    405: "The route takes another method.",
    409: "It does not fit what is there already; the message says why.",
    410: "It is over, and its result is no longer kept.",
    413: "The body, or a text or an image in it, is too large.",
    422: "The engine does not take this body; its answer says what is wrong.",
    429: "The API token is over one of its limits; Retry-After and RateLimit-* tell which and when.",
    499: "The task was cancelled while its caller waited.",
    500: "The engine failed at this request.",
    501: "The engine does not offer this.",
    502: "The engine was lost before its answer was whole.",
    503: "Nothing can serve this now; Retry-After tells when to come back.",
    504: "The task ran past its deadline.",
}
#: Of routes that run a task.
TASK_ERRORS = (400, 401, 403, 404, 405, 413, 429, 499, 500, 501, 502, 503, 504)
#: Of views that run none, where they are not public.
VIEW_ERRORS = (401, 403, 404, 405, 429, 500, 503)

PREFER = {
    "name": "Prefer",
    "in": "header",
    "schema": {"type": "string", "enum": ["respond-async"]},
    "description": "Answer 202 with the task's address at once.",
}
ACCEPTED = {"202": {"description": "Accepted, with the task's id and address.", "content": {JSON: {}}}}

SECURITY_SCHEMES = {
    "token": {"type": "http", "scheme": "bearer"},
    "password": {"type": "http", "scheme": "basic", "description": "Any user name, the API token as the password."},
}


def answer(*kinds: str, description: str = "The answer.") -> dict[str, Any]:
    """Return the response of a success, in any of some content types."""
    return {"200": {"description": description, "content": {kind: {} for kind in kinds}}}


def errors(statuses: tuple[int, ...], schema: dict[str, str] = ERROR) -> dict[str, Any]:
    """Return the responses of some error statuses."""
    content = {JSON: {"schema": schema}}
    return {str(status): {"description": ERRORS[status], "content": content} for status in sorted(set(statuses))}


def schemas() -> dict[str, Any]:
    """Return the schemas that the document's parts refer to."""
    properties = {"code": {"type": "integer"}, "message": {"type": "string"}, "type": {"type": "string"}}
    inner = {"type": "object", "properties": properties, "required": list(properties)}
    fields = {"error": "The class of the error.", "detail": "What is wrong.", "errors": "What the engine says of it."}
    webui = {name: {"type": "string", "description": text} for name, text in fields.items()}
    webui["type"] = {"type": "string", "description": "graycat's type of the error; an engine's own error has none."}
    return {
        "Error": {"type": "object", "properties": {"error": inner}},
        "WebuiError": {"type": "object", "properties": webui},
    }
