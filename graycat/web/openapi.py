"""The OpenAPI document and the page that shows it, generated from the tables of routes."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, current_app, jsonify, render_template
from flask.typing import ResponseReturnValue

from graycat import __version__
from graycat.web.wire import llamacpp, openai
from graycat.web.wire.fields import FIELDS
from graycat.web.wire.route import Route

bp = Blueprint("openapi", __name__)

_JSON = "application/json"
_ERROR = {"$ref": "#/components/schemas/Error"}

#: What each error status means to a caller; docs/errors.md tells more.
ERRORS = {
    400: "The request cannot be used; the message says why.",
    401: "The API token is missing or unknown.",
    403: "The API token lacks the admin scope.",
    404: "There is no such thing: a route, a task, or the model that the request names.",
    405: "The route takes another method.",
    413: "The body, or the text in it, is too large.",
    500: "The engine failed at this request.",
    501: "The engine does not offer this.",
    502: "The engine was lost before its answer was whole.",
    503: "Nothing can serve this now; Retry-After tells when to come back.",
    504: "The task ran past its deadline.",
}
_TASK_ERRORS = (400, 401, 404, 405, 413, 500, 501, 502, 503, 504)


@bp.get("/openapi.json")
def document() -> ResponseReturnValue:
    """Return the OpenAPI 3.1 document."""
    return jsonify(openapi())


@bp.get("/docs")
def page() -> ResponseReturnValue:
    """Show the document on a page that needs nothing from elsewhere."""
    return render_template("docs.html", document=openapi())


def openapi() -> dict[str, Any]:
    """Return the document of the current application: the tables' routes, and the views that say what they are."""
    tables = {path: route for route in (*llamacpp.ROUTES, *openai.ROUTES) for path in _keys(route)}
    paths: dict[str, dict[str, Any]] = {}
    for rule in current_app.url_map.iter_rules():
        if rule.endpoint == "static":
            continue
        path = rule.rule.replace("<", "{").replace(">", "}")
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            route = tables.get((method, path))
            operation = _task_operation(route) if route is not None else _view_operation(rule.endpoint, path, method)
            paths.setdefault(path, {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "graycat", "version": __version__, "description": "One address in front of a GPU fleet."},
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _error_schema()},
        },
        "security": [{"token": []}],
    }


def _keys(route: Route) -> list[tuple[str, str]]:
    return [(route.kind.method, path) for path in route.paths]


def _task_operation(route: Route) -> dict[str, Any]:
    answer: dict[str, Any] = {_JSON: {}}
    if route.streams:
        answer["text/event-stream"] = {}
    errors = (*_TASK_ERRORS, 403) if route.admin else _TASK_ERRORS
    operation: dict[str, Any] = {
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": [_PREFER],
        "responses": {
            "200": {"description": "The engine's answer.", "content": answer},
            **_ACCEPTED,
            **_errors(errors),
        },
    }
    if route.kind.method == "POST":
        operation["requestBody"] = {"required": True, "content": {_JSON: {"schema": _schema(route)}}}
    return operation


def _schema(route: Route) -> dict[str, Any]:
    if route.admin:
        return {}
    schema = {"type": "object", "properties": {name: FIELDS[name] for name in route.fields}}
    return schema | ({"required": list(route.required)} if route.required else {})


def _view_operation(endpoint: str, path: str, method: str) -> dict[str, Any]:
    view = current_app.view_functions[endpoint]
    public = endpoint in PUBLIC_ENDPOINTS and method == "GET"
    errors = (405, 500, 503) if public else (401, 404, 405, 500, 503)
    content = "text/html" if endpoint == "openapi.page" else _JSON
    names = [part.strip("{}") for part in path.split("/") if part.startswith("{")]
    return {
        "summary": (view.__doc__ or "").split("\n")[0],
        "tags": ["graycat"],
        "parameters": [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names],
        "responses": {"200": {"description": "The answer.", "content": {content: {}}}, **_errors(errors)},
    } | ({"security": []} if public else {})


def _errors(statuses: tuple[int, ...]) -> dict[str, Any]:
    content = {_JSON: {"schema": _ERROR}}
    return {str(status): {"description": ERRORS[status], "content": content} for status in sorted(statuses)}


def _error_schema() -> dict[str, Any]:
    properties = {"code": {"type": "integer"}, "message": {"type": "string"}, "type": {"type": "string"}}
    inner = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "object", "properties": {"error": inner}}


#: What anybody may see.
PUBLIC_ENDPOINTS = frozenset({"health.live", "health.ready", "openapi.document", "openapi.page"})

_PREFER = {
    "name": "Prefer",
    "in": "header",
    "schema": {"type": "string", "enum": ["respond-async"]},
    "description": "Answer 202 with the task's address at once.",
}
_ACCEPTED = {"202": {"description": "Accepted, with the task's id and address.", "content": {_JSON: {}}}}
