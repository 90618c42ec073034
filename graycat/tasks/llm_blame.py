"""Errors that a text engine takes for its own and that are the caller's: 400 in place of its 500.

llama.cpp answers 500 to every exception of its code but ``std::invalid_argument``, so also where a body has a field of
the wrong type (``tools/server/server-http.cpp`` and ``server-context.cpp``, build 11549). A caller who reads 500 tries
again, and an operator looks for a fault that there is not.
"""

from __future__ import annotations

import json
import re

from graycat.bounds.stored import parse_json
from graycat.errors import EngineError

#: What such an error's message has, and what the caller reads in its place; None: the engine's words.
CALLERS_FAULTS: tuple[tuple[re.Pattern[str], str | None], ...] = (
    # A field of the wrong type, or without what belongs into it: nlohmann's JSON library says so.
    (re.compile(r"\[json\.exception\.(type_error|out_of_range|parse_error)\."), None),
    (re.compile(r"^Failed to parse (messages|tools|tool call arguments)"), None),
    (re.compile(r"^'\w+' is required"), None),
    (re.compile(r"^Unknown reasoning format"), None),
    (re.compile(r"^(image|audio|video) input is not supported"), None),
    # A chat template that refuses these messages, with a sentence of its own: roles that do not alternate, ...
    (re.compile(r"Jinja Exception:"), None),
    # `POST /detokenize` with a number that no token has.
    (re.compile(r"^vector::_M_range_check"), "'tokens' has a number that is no token of this model"),
)


def blame_caller(error: EngineError) -> EngineError:
    """Return an engine's error with status 400 if it tells that the body is at fault; else the error itself."""
    if error.status != 500:
        return error
    try:
        body = parse_json(error.reply)
        inner = body["error"]
        message = inner["message"]
    except (ValueError, TypeError, LookupError):
        return error
    if not isinstance(message, str):
        return error
    for pattern, sentence in CALLERS_FAULTS:
        if pattern.search(message):
            told = {"code": 400, "message": sentence or message, "type": "invalid_request_error"}
            return EngineError(400, json.dumps(body | {"error": inner | told}).encode())
    return error
