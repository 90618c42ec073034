"""What graycat itself checks in a request's body; everything else reaches the engine untouched."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from graycat.errors import RequestError


def read_object(raw: bytes) -> dict[str, Any]:
    """Return a request's JSON object. Raises RequestError for anything else, NaN and infinities included."""
    try:
        value = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise RequestError("the body must be a JSON object")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def completion_prompt(body: dict[str, Any]) -> str | list[Any]:
    """Return the prompt of a ``/completion``: text, token ids, a mix of both, or a list of such prompts."""
    if "prompt" not in body:
        raise RequestError("'prompt' is required: a string, or a list of token ids")
    prompt = body["prompt"]
    if not isinstance(prompt, (str, list)):
        raise RequestError("'prompt' must be a string, or a list of strings and token ids")
    return prompt


def streams(body: dict[str, Any]) -> bool:
    """Tell whether the caller wants events. Raises RequestError for a ``stream`` that is not a bool."""
    stream = body.get("stream", False)
    if not isinstance(stream, bool):
        raise RequestError("'stream' must be true or false")
    return stream


def gatherable(body: dict[str, Any]) -> bool:
    """Tell whether a whole ``/completion`` can be put together exactly from its stream.

    Not with several prompts or several answers to one (the reply is a list), and not where the caller picks the
    fields of the reply.
    """
    prompt = body["prompt"]
    several = isinstance(prompt, list) and (not any(isinstance(part, int) for part in prompt))
    return not (several or body.get("response_fields") or body.get("n", 1) != 1 or body.get("n_cmpl", 1) != 1)
