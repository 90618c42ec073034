"""Generates the OpenAPI document from the tables of routes."""

from __future__ import annotations

import copy
import re
from typing import Any

from flask import Blueprint, current_app
from flask.typing import ResponseReturnValue

from graycat import __version__
from graycat.web.compat.route import Route
from graycat.web.compat.text_routes import TEXT_ROUTES
from graycat.web.openapi import (
    answers,
    batches,
    error_types,
    examples,
    fleet,
    gallery,
    groups,
    images,
    queries,
    schedules,
    tasks,
    tokens,
    usage,
)
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
from graycat.web.prebuilt import prebuilt
from graycat.web.services import services

bp = Blueprint("openapi", __name__)

#: Modules with the operations of routes that are in no table.
PARTS = (images, tasks, batches, gallery, schedules, tokens, usage, fleet)
#: Endpoints that need no API token.
PUBLIC_ENDPOINTS = frozenset({"health.live", "health.ready", "health.web", "openapi.document"})
DESCRIPTION = """One address in front of a GPU fleet: text by llama.cpp, images by Stable Diffusion.

Send your API token as `Authorization: Bearer TOKEN`. Fields of engines that are not listed here reach the engine
unchanged. An error is `{"error": {"code", "message", "type"}}`; programs may switch on `type`.

In the examples, `$GRAYCAT` is this server's address and `$TOKEN` is your API token."""
#: What is no part of the API: pages for people, and their files.
PAGES = frozenset({"static", "docs", "guides", "page"})
#: The content types of views that do not answer JSON.
CONTENT_TYPES = {"metrics.scrape": "text/plain"}
#: A variable part of a path, as Flask writes it.
_VARIABLE = re.compile(r"<(?:(\w+):)?(\w+)>")


@bp.get("/openapi.json")
def document() -> ResponseReturnValue:
    """Return the OpenAPI 3.1 document."""
    return prebuilt("document", JSON, lambda: current_app.json.dumps(openapi()))


def openapi() -> dict[str, Any]:
    """Return the document of the current application: the routes of the tables, and all other views."""
    routes = _routes_by_method_and_path()
    first_paths = _first_paths()
    paths: dict[str, dict[str, Any]] = {}
    for rule in current_app.url_map.iter_rules():
        if rule.endpoint.partition(".")[0] in PAGES:
            continue
        path = _VARIABLE.sub(r"{\2}", rule.rule)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            route = routes.get((method, path))
            operation = _view_operation(rule.endpoint, method) if route is None else _task_operation(route)
            operation["parameters"] = [*operation.get("parameters", ()), *_path_parameters(rule.rule)]
            first = first_paths[_view_key(rule.endpoint, method)]
            paths.setdefault(path, {})[method.lower()] = _finish(operation, rule.endpoint, method, path, first)
    return {
        "openapi": "3.1.0",
        "info": {"title": "graycat", "version": __version__, "description": DESCRIPTION},
        "servers": _servers(),
        "tags": groups.tags(services().settings.public_prefix),
        "paths": paths,
        "components": {"securitySchemes": SECURITY_SCHEMES, "schemas": _schemas()},
        "security": [{"token": []}, {"key": []}],
    }


def _finish(operation: dict[str, Any], endpoint: str, method: str, path: str, first: str) -> dict[str, Any]:
    """Return an operation with its group, its name and its examples. ``first``: the first path of its view."""
    is_alias = path != first
    name = groups.operation_id(endpoint, method, path, is_alias=is_alias)
    # Parts of an operation may be shared with others.
    operation = copy.deepcopy(operation)
    group = groups.group_name(endpoint, is_alias=False)
    operation |= {"operationId": name, "tags": [group]}
    # An alias is the same operation in another group.
    answers.add(_first_endpoint(endpoint), operation["responses"])
    error_types.add(group, operation["responses"])
    # A summary is plain text.
    operation["summary"] = operation["summary"].replace("``", "")
    if is_alias:
        operation["tags"] = [groups.ALIASES]
        operation["summary"] += f" The same as {first}."
    examples.add(operation, method, path, first)
    return operation


def _first_endpoint(endpoint: str) -> str:
    """Return the endpoint of a view's first path: further ones have a number at their end, or a name of their own."""
    view = current_app.view_functions[endpoint]
    return next(name for name, other in current_app.view_functions.items() if other is view)


def _view_key(endpoint: str, method: str) -> tuple[Any, str]:
    return current_app.view_functions[endpoint], method


def _first_paths() -> dict[tuple[Any, str], str]:
    """Return the first path of each view: its further paths are other names of the same."""
    first: dict[tuple[Any, str], str] = {}
    for rule in current_app.url_map.iter_rules():
        for method in rule.methods or ():
            first.setdefault(_view_key(rule.endpoint, method), _VARIABLE.sub(r"{\2}", rule.rule))
    return first


def _servers() -> list[dict[str, str]]:
    """Return where the paths begin: at the address that the document came from, and at the public one."""
    settings = services().settings
    found = [{"url": settings.public_prefix or "/", "description": "The address that this document came from."}]
    if settings.public_base:
        found.append({"url": settings.public_base, "description": "The public address."})
    return found


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
        return summary | {"security": [], "responses": {**success, **errors((405, 500, 503))}}
    return summary | {"responses": {**success, **errors(VIEW_ERRORS), **_query_errors(endpoint)}}


def _query_errors(endpoint: str) -> dict[str, Any]:
    """Return the answer to query parameters that a route has not; empty if it takes any."""
    if endpoint.partition(".")[0] in queries.CHECKED:
        return errors((400,))
    return {}


def _schemas() -> dict[str, Any]:
    return schemas() | answers.SCHEMAS | tasks.schemas() | batches.schemas() | schedules.schemas() | usage.schemas()


def _path_parameters(rule: str) -> list[dict[str, Any]]:
    parameters = []
    for converter, name in _VARIABLE.findall(rule):
        schema_type = "string"
        if converter == "int":
            schema_type = "integer"
        parameters.append({"name": name, "in": "path", "required": True, "schema": {"type": schema_type}})
    return parameters
