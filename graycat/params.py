"""What graycat itself checks in the body of a text request; everything else reaches the engine unchanged.

Image requests are checked in ``graycat/images/webui_requests.py``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from graycat.bounds.body import count_answers, is_list_of_prompts, parse_count
from graycat.bounds.documents import RepeatedField, refuse_repeated
from graycat.bounds.names import suggest
from graycat.bounds.nesting import check_depth, refuse_depth
from graycat.bounds.unreadable import explain
from graycat.errors import GraycatError, LimitExceeded, PromptTooLarge, RequestError
from graycat.gctuning import without_collections

#: Fields of all APIs whose text a model reads.
TEXT_FIELDS = (
    *("prompt", "messages", "content", "input", "system", "input_prefix", "input_suffix", "documents", "query"),
    *("negative_prompt", "hr_prompt", "hr_negative_prompt"),
)
#: Fields that say how many tokens an answer may have; which of them an engine reads depends on the route and its age.
TOKEN_FIELDS = ("n_predict", "max_tokens", "max_completion_tokens", "max_output_tokens")
#: What no file and no engine can have in a text, in words.
HALF_CHARACTER, NUL = "half a character (an unpaired surrogate)", "the character U+0000 (NUL)"
#: ``wait`` of a long poll has this many seconds at most.
MAX_WAIT_S = 300.0


def read_json(raw: bytes, max_depth: int, *, is_document: bool = False) -> Any:
    """Return a request's JSON. Raises RequestError for anything else, NaN, infinities and half characters included.

    Raises TooComplex for more than ``max_depth`` levels of objects and arrays. ``is_document``: it is one of graycat's
    own, written by hand: no field may be there twice, and half characters are left to its own check, which names each.
    """
    # An engine's body is read without: it takes a third of the time, and engines take the last one, too.
    pairs_hook = None
    if is_document:
        pairs_hook = refuse_repeated
    if not json.detect_encoding(raw).startswith("utf-8"):
        # RFC 8259 knows UTF-8 alone; an engine would refuse the bytes, which reach it as they came.
        raise RequestError(explain(raw))
    try:
        # JSON has no cycles: the collector would search it for nothing, again and again while it grows.
        with without_collections():
            value = json.loads(
                raw, parse_constant=_refuse_constant, parse_float=_parse_finite, object_pairs_hook=pairs_hook
            )
    except RecursionError:
        raise refuse_depth(max_depth) from None
    except ValueError as error:
        raise _refusal(raw, error, max_depth) from None
    check_depth(value, raw, max_depth)
    if not is_document and _may_hold_surrogates(raw):
        for path in find_unpaired_surrogates(value):
            where = repr(path[:100]) if path else "the body"
            raise RequestError(f"{where} holds half a character (an unpaired surrogate), which UTF-8 cannot write").at(
                path[:100]
            )
    return value


def _refusal(raw: bytes, error: ValueError, max_depth: int) -> GraycatError:
    """Return the error for a body that cannot be read as JSON. ``error``: what the reader raised."""
    if isinstance(error, RepeatedField):
        return RequestError(str(error))
    try:
        return RequestError(explain(raw))
    except RecursionError:
        return refuse_depth(max_depth)


def _may_hold_surrogates(raw: bytes) -> bool:
    """Return whether JSON must be searched for half characters: it has escapes, or is no plain UTF-8."""
    # One byte is found several times faster than two, and megabytes have none.
    if b"\0" in raw or (b"\\" in raw and b"\\u" in raw):
        return True
    if raw.isascii():
        return False
    try:
        raw.decode()
    except UnicodeDecodeError:
        # Python's reader of JSON takes a surrogate's own three bytes, too.
        return True
    return False


def find_unpaired_surrogates(value: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of texts that UTF-8 cannot encode; for a field with such a name, that of the field.

    JSON can write half a character, like ``"\\ud83d"``. What encodes such a text fails: a store, an engine, a file.
    """
    yield from _find_texts(value, path, _is_unencodable)


def _find_texts(value: Any, path: str, is_wanted: Callable[[str], bool]) -> Iterator[str]:
    """Yield the paths of such texts; for a field with such a name, that of the field."""
    pending = [(value, path)]
    while pending:
        item, where = pending.pop()
        if isinstance(item, str) and is_wanted(item):
            yield where
        elif isinstance(item, dict):
            for name, part in item.items():
                readable_name = str(name).replace("\0", "\\x00").encode(errors="backslashreplace").decode()[:60]
                part_path = f"{where}.{readable_name}" if where else readable_name
                if is_wanted(str(name)):
                    yield part_path
                pending.append((part, part_path))
        elif isinstance(item, list):
            pending.extend((part, f"{where}[{index}]") for index, part in enumerate(item))


def find_unusable_texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the paths of texts that no file and no engine can have, and what each holds.

    Those are half characters, and U+0000: it ends a text for what is written in C, and no file's name can have it.
    """
    for where in find_unpaired_surrogates(value, path):
        yield where, HALF_CHARACTER
    for where in _find_texts(value, path, _has_nul):
        yield where, NUL


def _has_nul(text: str) -> bool:
    return "\0" in text


def _is_unencodable(text: str) -> bool:
    return not _is_encodable(text)


def _is_encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_object(raw: bytes, max_depth: int, *, is_document: bool = False) -> dict[str, Any]:
    """Return a request's JSON object. Raises RequestError for anything else, TooComplex as ``read_json`` does."""
    value = read_json(raw, max_depth, is_document=is_document)
    if not isinstance(value, dict):
        raise RequestError("the body must be a JSON object")
    return value


def refuse_unknown(body: dict[str, Any], known: tuple[str, ...]) -> None:
    """Raise RequestError for a field outside ``known``; for bodies that no engine reads."""
    for field in sorted(body.keys() - set(known)):
        raise RequestError(f"there is no field {field[:100]!r}; {suggest(field, known)}")


def check_size(body: dict[str, Any], max_chars: int) -> None:
    """Raise PromptTooLarge if the texts of a body have more than ``max_chars`` characters together."""
    chars = 0
    for field in TEXT_FIELDS:
        chars += _count_chars(body.get(field))
    if chars > max_chars:
        raise PromptTooLarge(f"the request's text has {chars} characters; this server takes {max_chars}")


def _count_chars(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return sum(map(_count_chars, value))
    if isinstance(value, dict):
        return sum(map(_count_chars, value.values()))
    return 0


def _parse_finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _refuse_constant(text)
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def completion_prompt(body: dict[str, Any]) -> str | list[Any] | dict[str, Any]:
    """Return the prompt of a ``/completion``: text, token ids, a mix of both, or a list of such prompts.

    An object is llama.cpp's form of a prompt with media; the engine checks its contents.
    """
    if "prompt" not in body:
        raise RequestError("'prompt' is required: a string, or a list of token ids")
    prompt = body["prompt"]
    if not isinstance(prompt, (str, list, dict)):
        raise RequestError("'prompt' must be a string, or a list of strings and token ids")
    return prompt


def streams(body: dict[str, Any]) -> bool:
    """Return whether the caller wants events. Raises RequestError for a ``stream`` that is neither bool nor null."""
    stream = body.get("stream")
    if not isinstance(stream, bool | None):
        raise RequestError("'stream' must be true or false")
    return bool(stream)


def gatherable(body: dict[str, Any]) -> bool:
    """Return whether the whole answer of a ``/completion`` can be put together exactly from its stream.

    It cannot with several prompts or several answers to one prompt (the reply is a list), if the caller picks the
    fields of the reply, or if the engine's stream lacks a part of the whole answer: text that might have become a stop
    word, and the ids of a character's first tokens.
    """
    if is_list_of_prompts(body["prompt"]):
        return False
    if any(body.get(field) for field in ("response_fields", "stop", "return_tokens")):
        return False
    return bool(body.get("n", 1) == 1 and body.get("n_cmpl", 1) == 1)


def cap_tokens(body: dict[str, Any], field: str, max_tokens: int) -> dict[str, Any]:
    """Return a body whose answers have at most ``max_tokens`` tokens together. Raises LimitExceeded for a larger one.

    ``field`` is the one that every engine reads on this route. If it is absent, negative or not a number, the engine
    would take its own default, which may be "until the model ends": then the limit is written into it. That is the only
    change.
    """
    answers = count_answers(body)
    max_each = max_tokens // answers
    counts = {}
    for name in TOKEN_FIELDS:
        count = parse_count(body.get(name))
        if count is not None:
            counts[name] = count
    wanted = max(counts.values(), default=0)
    if wanted > max_each or not max_each:
        asked = str(wanted)
        if answers > 1:
            asked = f"{wanted} for each of {answers}"
        raise LimitExceeded(
            f"this API token may have {max_tokens} tokens generated by a request (max_tokens), not {asked}"
        )

    changes = {}
    lowest = min(counts.values(), default=max_each)
    for name in (field, *TOKEN_FIELDS):
        # A value that graycat cannot read as a count might still mean more to the engine than the field that it can.
        if name not in counts and (name == field or name in body):
            changes[name] = lowest
    if not changes:
        # The same object: its bytes are sent as they came.
        return body
    return body | changes
