"""What graycat itself checks in a request's body; everything else reaches the engine untouched."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from graycat.errors import PromptTooLarge, RequestError

#: Fields that hold what a model reads, on every wire.
TEXT_FIELDS = (
    *("prompt", "messages", "content", "input", "system", "input_prefix", "input_suffix", "documents", "query"),
    *("negative_prompt", "hr_prompt", "hr_negative_prompt"),
)


def read_json(raw: bytes) -> Any:
    """Return a request's JSON. Raises RequestError for anything else, NaN and infinities included."""
    try:
        return json.loads(raw, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not JSON: {error}") from None


def read_object(raw: bytes) -> dict[str, Any]:
    """Return a request's JSON object. Raises RequestError for anything else."""
    value = read_json(raw)
    if not isinstance(value, dict):
        raise RequestError("the body must be a JSON object")
    return value


def check_size(body: dict[str, Any], most_chars: int) -> None:
    """Raise PromptTooLarge where the texts of a body have more than ``most_chars`` characters together."""
    chars = sum(_chars(body[field]) for field in TEXT_FIELDS if field in body)
    if chars > most_chars:
        raise PromptTooLarge(f"the request's text has {chars} characters; this server takes {most_chars}")


def _chars(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return sum(map(_chars, value))
    return sum(map(_chars, value.values())) if isinstance(value, dict) else 0


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_constant(text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def completion_prompt(body: dict[str, Any]) -> str | list[Any] | dict[str, Any]:
    """Return the prompt of a ``/completion``: text, token ids, a mix of both, or a list of such prompts.

    An object is llama.cpp's form of a prompt with media; what is in it, the engine judges.
    """
    if "prompt" not in body:
        raise RequestError("'prompt' is required: a string, or a list of token ids")
    prompt = body["prompt"]
    if not isinstance(prompt, (str, list, dict)):
        raise RequestError("'prompt' must be a string, or a list of strings and token ids")
    return prompt


def streams(body: dict[str, Any]) -> bool:
    """Tell whether the caller wants events. Raises RequestError for a ``stream`` that is neither bool nor null."""
    stream = body.get("stream")
    if not isinstance(stream, bool | None):
        raise RequestError("'stream' must be true or false")
    return bool(stream)


def gatherable(body: dict[str, Any]) -> bool:
    """Tell whether a whole ``/completion`` can be put together exactly from its stream.

    Not with several prompts or several answers to one (the reply is a list), not where the caller picks the fields of
    the reply, and not where the engine's stream holds less than its whole answer: text that might have become a stop
    word, and the ids of a character's first tokens.
    """
    prompt = body["prompt"]
    if isinstance(prompt, list) and not any(isinstance(part, int) for part in prompt):
        return False
    if any(body.get(field) for field in ("response_fields", "stop", "return_tokens")):
        return False
    return bool(body.get("n", 1) == 1 and body.get("n_cmpl", 1) == 1)
