"""The OpenAPI document and the page that shows it, generated from the tables of routes."""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, current_app, jsonify, render_template
from flask.typing import ResponseReturnValue

from graycat import __version__
from graycat.web.compat import llamacpp, openai
from graycat.web.compat.route import Route
from graycat.web.openapi import batches, gallery, images, schedules, tasks
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
from graycat.web.openapi.text_fields import FIELDS

bp = Blueprint("openapi", __name__)

#: What documents routes that no table lists.
PARTS = (images, tasks, batches, gallery, schedules)
#: What anybody may see.
PUBLIC_ENDPOINTS = frozenset({"health.live", "health.ready", "openapi.document", "openapi.page"})
#: What some views answer that is no JSON.
CONTENT_TYPES = {"openapi.page": "text/html", "metrics.scrape": "text/plain"}
#: A part of an address that varies, as Flask writes it.
_VARIABLE = re.compile(r"<(?:(\w+):)?(\w+)>")


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
        path = _VARIABLE.sub(r"{\2}", rule.rule)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            route = tables.get((method, path))
            operation = _task_operation(route) if route is not None else _view_operation(rule.endpoint, method)
            operation["parameters"] = [*operation.get("parameters", ()), *_in_path(rule.rule)]
            paths.setdefault(path, {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "graycat", "version": __version__, "description": "One address in front of a GPU fleet."},
        "paths": dict(sorted(paths.items())),
        "components": {"securitySchemes": SECURITY_SCHEMES, "schemas": _schemas()},
        "security": [{"token": []}],
    }


def _keys(route: Route) -> list[tuple[str, str]]:
    return [(route.kind.method, path) for path in route.paths]


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
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": _schema(route)}}}
    return operation


def _schema(route: Route) -> dict[str, Any]:
    if route.admin:
        return {}
    schema = {"type": "object", "properties": {name: FIELDS[name] for name in route.fields}}
    return schema | ({"required": list(route.required)} if route.required else {})


def _view_operation(endpoint: str, method: str) -> dict[str, Any]:
    summary = {"summary": (current_app.view_functions[endpoint].__doc__ or "").split("\n")[0]}
    if operation := _documented(endpoint):
        return summary | operation
    success = answer(CONTENT_TYPES.get(endpoint, JSON))
    if endpoint in PUBLIC_ENDPOINTS and method == "GET":
        return summary | {"tags": ["graycat"], "security": [], "responses": {**success, **errors((405, 500, 503))}}
    return summary | {"tags": ["graycat"], "responses": {**success, **errors(VIEW_ERRORS)}}


def _schemas() -> dict[str, Any]:
    return schemas() | tasks.schemas() | batches.schemas() | schedules.schemas()


def _documented(endpoint: str) -> dict[str, Any]:
    return next(filter(None, (part.operation(endpoint) for part in PARTS)), {})


def _in_path(rule: str) -> list[dict[str, Any]]:
    kinds = {"int": "integer"}
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": kinds.get(kind, "string")}}
        for kind, name in _VARIABLE.findall(rule)
    ]
