"""Checks the query parameters of graycat's own routes: their names and their words are those of the OpenAPI document.

A parameter that nobody reads would be ignored in silence, and a list that it was meant to narrow be shown whole, or
empty. Other APIs' routes take any parameter: their clients send some (``?beta=true``, ``?api-version=...``); and so do
galleries and images, whose signed links are passed on by programs that add parameters of their own.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from flask import request

from graycat.bounds.names import find_nearest
from graycat.errors import RequestError
from graycat.web.auth import token_auth, verify_token
from graycat.web.openapi import batches, schedules, tasks, tokens, usage

#: Blueprints whose routes are checked, and the modules with their operations.
CHECKED = {
    "tasks": tasks,
    "events": tasks,
    "webhooks": tasks,
    "batches": batches,
    "schedules": schedules,
    "usage": usage,
    "tokens": tokens,
}
#: Characters of a name or a value that a message repeats.
MAX_SHOWN = 60


def check() -> None:
    """Raise RequestError for a query parameter that the request's route has not, or for a word that it does not take.

    A parameter that takes one value must not come twice: which of them counts would be a guess. Who sends no API token
    is told of that first, by the route.
    """
    if not request.query_string or request.blueprint not in CHECKED:
        return
    credentials = token_auth.get_auth()
    if credentials is None or verify_token(credentials.token or "") is None:
        return
    known = parameters(str(request.endpoint))
    for name, values in request.args.lists():
        if name not in known:
            raise RequestError(_unknown_name(name, known))
        schema = known[name]
        many = schema.get("type") == "array"
        if len(values) > 1 and not many:
            raise RequestError(f"the query parameter {name!r} must not be given more than once")
        if many:
            schema = schema["items"]
        for value in values:
            _check_word(name, value, schema)


def _check_word(name: str, value: str, schema: dict[str, Any]) -> None:
    """Raise RequestError for a value that is none of a schema's words, and in none of its forms."""
    choices = schema.get("anyOf", [schema])
    words: list[str] = []
    for choice in choices:
        words += choice.get("enum", ())
        if len(choices) > 1 and "pattern" in choice and re.search(choice["pattern"], value):
            return
    if words and value not in words:
        raise RequestError(f"{name!r} must be one of {', '.join(words)}, not '{value[:MAX_SHOWN]}'")


def _unknown_name(name: str, known: dict[str, dict[str, Any]]) -> str:
    sentence = f"there is no query parameter '{name[:MAX_SHOWN]}' here"
    nearest = find_nearest(name, known)
    if nearest:
        return f"{sentence}; did you mean {nearest!r}?"
    if known:
        return f"{sentence}; there are {', '.join(known)}"
    return f"{sentence}; this route takes none"


@cache
def parameters(endpoint: str) -> dict[str, dict[str, Any]]:
    """Return the schemas of the query parameters of an endpoint of graycat's own, by name."""
    module = CHECKED[endpoint.partition(".")[0]]
    operation: dict[str, Any] = module.operation(endpoint)
    found = {}
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "query":
            found[parameter["name"]] = parameter["schema"]
    return found
