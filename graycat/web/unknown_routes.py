"""What to do about a request for a route that is not there, or that takes another method."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from flask import current_app, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

#: Characters of a path that are repeated, or compared with those of the routes.
MAX_PATH_CHARS = 100
#: How alike a path must be to a route's, from 0 to 1.
MIN_LIKENESS = 0.8
#: Prefixes that clients put before a path which has none, or has it already.
PREFIXES = ("/v1", "/api", "/openai")


def explain(error: HTTPException) -> str:
    """Return a sentence for an error of Flask's: what is wrong with the request, and what to do."""
    path = request.path
    asked = f"{request.method[:20]} {path[:MAX_PATH_CHARS]}"
    if isinstance(error, MethodNotAllowed):
        methods = sorted(set(error.valid_methods or ()) - {"HEAD", "OPTIONS"})
        return f"{asked}: the route takes {', '.join(methods)} alone"
    if isinstance(error, NotFound):
        sentence = f"{asked}: there is no such route"
        nearest = find_nearest(path)
        if nearest:
            return f"{sentence}; did you mean {nearest}?"
        return f"{sentence}; GET /docs lists those that there are"
    return f"{asked}: {error.name}"


def find_nearest(path: str) -> str:
    """Return the route that was probably meant; '' if none is near."""
    if len(path) > MAX_PATH_CHARS:
        return ""
    routes = [rule.rule for rule in current_app.url_map.iter_rules() if "<" not in rule.rule]
    known = frozenset(routes)
    for candidate in _candidates(path.rstrip("/")):
        if candidate in known:
            return candidate
    matches = difflib.get_close_matches(path.rstrip("/"), routes, 1, MIN_LIKENESS)
    return "".join(matches)


def _candidates(path: str) -> Iterable[str]:
    """Yield a path without a slash at its end, and without or with prefixes."""
    yield path
    for prefix in PREFIXES:
        bare = path
        while bare.startswith(prefix + "/"):
            bare = bare[len(prefix) :]
            yield bare
            yield f"/v1{bare}"
    yield f"/v1{path}"
