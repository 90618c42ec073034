"""Generates the OpenAPI document from the tables of routes, and the page that shows it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from flask import Blueprint, current_app, render_template
from flask.typing import ResponseReturnValue

from graycat import __version__
from graycat.web.compat.route import Route
from graycat.web.compat.text_routes import TEXT_ROUTES
from graycat.web.openapi import batches, gallery, images, queries, schedules, tasks, usage
from graycat.web.openapi.components import (
    ACCEPTED,
    JSON,
    PREFER,
    SECURITY_SCHEMES,
    TASK_ERRORS,
    VIEW_ERRORS,
    answer,
    errors,
    schemas,
)
from graycat.web.openapi.prebuilt import PrebuiltAnswer
from graycat.web.openapi.text_fields import FIELDS
from graycat.web.services import services

bp = Blueprint("openapi", __name__)

#: Modules with the operations of routes that are in no table.
PARTS = (images, tasks, batches, gallery, schedules, usage)
#: Endpoints that need no API token.
PUBLIC_ENDPOINTS = frozenset({"health.live", "health.ready", "health.web", "openapi.document", "openapi.page"})
#: What views answer besides VIEW_ERRORS.
MORE_ERRORS = {"tokens.mint": (400, 409, 413), "tokens.rotate": (400, 409, 413), "tokens.mint_player": (400, 413)}
#: The content types of views that do not answer JSON.
CONTENT_TYPES = {"openapi.page": "text/html", "metrics.scrape": "text/plain"}
#: A variable part of a path, as Flask writes it.
_VARIABLE = re.compile(r"<(?:(\w+):)?(\w+)>")


@bp.get("/openapi.json")
def document() -> ResponseReturnValue:
    """Return the OpenAPI 3.1 document."""
    return _prebuilt("document", JSON, lambda: current_app.json.dumps(openapi())).response()


@bp.get("/docs")
def page() -> ResponseReturnValue:
    """Show the document on a page that loads nothing from other sites."""
    html = "text/html; charset=utf-8"
    return _prebuilt("page", html, lambda: render_template("docs.html", document=openapi())).response()


def _prebuilt(name: str, content_type: str, build: Callable[[], str]) -> PrebuiltAnswer:
    """Return an answer of this process, built at the first call: the routes do not change after the start."""
    answers: dict[str, PrebuiltAnswer] = current_app.extensions.setdefault("graycat.prebuilt", {})
    found = answers.get(name)
    if found is None:
        found = PrebuiltAnswer(build().encode(), content_type)
        answers[name] = found
    return found


def openapi() -> dict[str, Any]:
    """Return the document of the current application: the routes of the tables, and all other views."""
    routes = _routes_by_method_and_path()
    paths: dict[str, dict[str, Any]] = {}
    for rule in current_app.url_map.iter_rules():
        if rule.endpoint == "static":
            continue
        path = _VARIABLE.sub(r"{\2}", rule.rule)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            route = routes.get((method, path))
            operation = _view_operation(rule.endpoint, method) if route is None else _task_operation(route)
            operation["parameters"] = [*operation.get("parameters", ()), *_path_parameters(rule.rule)]
            paths.setdefault(path, {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "graycat", "version": __version__, "description": "One address in front of a GPU fleet."},
        **_servers(),
        "paths": dict(sorted(paths.items())),
        "components": {"securitySchemes": SECURITY_SCHEMES, "schemas": _schemas()},
        "security": [{"token": []}, {"key": []}],
    }


def _servers() -> dict[str, Any]:
    """Return where the paths begin; nothing if that is where the document came from."""
    base = services().settings.public_base
    if not base:
        return {}
    return {"servers": [{"url": base}]}


def _routes_by_method_and_path() -> dict[tuple[str, str], Route]:
    routes = {}
    for route in TEXT_ROUTES:
        for path in route.paths:
            routes[route.kind.method, path] = route
    return routes


def _task_operation(route: Route) -> dict[str, Any]:
    success = answer(JSON, description="The engine's answer.")
    if route.streams:
        success["200"]["content"]["text/event-stream"] = {}
    failures = errors(TASK_ERRORS)
    operation: dict[str, Any] = {
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": [PREFER],
        "responses": {**success, **ACCEPTED, **failures},
    }
    if route.kind.method == "POST":
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": _body_schema(route)}}}
    return operation


def _body_schema(route: Route) -> dict[str, Any]:
    if route.admin:
        return {}
    schema: dict[str, Any] = {"type": "object", "properties": {name: FIELDS[name] for name in route.fields}}
    if route.required:
        schema["required"] = list(route.required)
    return schema


def _view_operation(endpoint: str, method: str) -> dict[str, Any]:
    docstring = current_app.view_functions[endpoint].__doc__ or ""
    summary = {"summary": docstring.split("\n")[0]}
    for part in PARTS:
        operation: dict[str, Any] = part.operation(endpoint)
        if operation:
            return summary | operation | {"responses": operation["responses"] | _query_errors(endpoint)}
    success = answer(CONTENT_TYPES.get(endpoint, JSON))
    if endpoint in PUBLIC_ENDPOINTS and method == "GET":
        return summary | {"tags": ["graycat"], "security": [], "responses": {**success, **errors((405, 500, 503))}}
    statuses = (*MORE_ERRORS.get(endpoint, ()), *VIEW_ERRORS)
    return summary | {"tags": ["graycat"], "responses": {**success, **errors(statuses), **_query_errors(endpoint)}}


def _query_errors(endpoint: str) -> dict[str, Any]:
    """Return the answer to query parameters that a route has not; empty if it takes any."""
    if endpoint.partition(".")[0] in queries.CHECKED:
        return errors((400,))
    return {}


def _schemas() -> dict[str, Any]:
    return schemas() | tasks.schemas() | batches.schemas() | schedules.schemas() | usage.schemas()


def _path_parameters(rule: str) -> list[dict[str, Any]]:
    parameters = []
    for converter, name in _VARIABLE.findall(rule):
        schema_type = "string"
        if converter == "int":
            schema_type = "integer"
        parameters.append({"name": name, "in": "path", "required": True, "schema": {"type": schema_type}})
    return parameters
