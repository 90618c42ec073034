"""What graycat itself checks in a request's body; everything else reaches the engine untouched."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from graycat.errors import LimitExceeded, PromptTooLarge, RequestError

#: Fields that hold what a model reads, on every wire.
TEXT_FIELDS = (
    *("prompt", "messages", "content", "input", "system", "input_prefix", "input_suffix", "documents", "query"),
    *("negative_prompt", "hr_prompt", "hr_negative_prompt"),
)
#: Fields that say how many tokens an answer may have; which of them an engine reads depends on the route and its age.
TOKEN_FIELDS = ("n_predict", "max_tokens", "max_completion_tokens", "max_output_tokens")


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


def refuse_unknown(body: dict[str, Any], known: tuple[str, ...]) -> None:
    """Raise RequestError for a field outside ``known``, in a body that is all graycat's own."""
    for field in sorted(body.keys() - set(known)):
        raise RequestError(f"there is no field {field[:100]!r}; there are {', '.join(known)}")


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
    if _several(body["prompt"]):
        return False
    if any(body.get(field) for field in ("response_fields", "stop", "return_tokens")):
        return False
    return bool(body.get("n", 1) == 1 and body.get("n_cmpl", 1) == 1)


def _several(prompt: Any) -> bool:
    """Tell whether a prompt is a list of prompts, rather than one."""
    return isinstance(prompt, list) and not any(isinstance(part, int) for part in prompt)


def cap_tokens(body: dict[str, Any], field: str, most: int) -> dict[str, Any]:
    """Return a body whose answers have ``most`` tokens together, at most. Raises LimitExceeded where it asks for more.

    ``field`` is the one that every engine reads on this route. Where it is absent, negative or no number, the engine
    would take its own default, which may be "until the model ends": then it is written in. That is the only change.
    """
    prompt = body.get("prompt")
    answers = max(1, *(_count(body.get(name)) or 1 for name in ("n", "n_cmpl", "best_of")))
    answers *= max(1, len(prompt)) if isinstance(prompt, list) and _several(prompt) else 1
    given = {name: count for name in TOKEN_FIELDS if (count := _count(body.get(name))) is not None}
    each = most // answers
    wanted = max(given.values(), default=0)
    if wanted > each or not each:
        asked = f"{wanted} for each of {answers}" if answers > 1 else str(wanted)
        raise LimitExceeded(f"this API token may have {most} tokens generated by a request (max_tokens), not {asked}")
    least = min(given.values(), default=each)
    # One that the engine cannot use might still count for more than the field that it can.
    unusable = [name for name in (field, *TOKEN_FIELDS) if (name == field or name in body) and name not in given]
    return body | dict.fromkeys(unusable, least) if unusable else body


def _count(value: Any) -> int | None:
    """Return a count that an engine can use; None for anything else."""
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
    return int(value) if usable else None
