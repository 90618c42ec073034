"""Why a body is not JSON, in words for its sender: what is wrong, where, and in which field.

Nothing here quotes what the body holds. It is used for bodies that are refused; others cost nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

#: Python reads no integer with more digits than this (``sys.int_info.default_max_str_digits``).
MAX_DIGITS = 4300
#: Characters of a field's path that a message repeats.
MAX_PATH_CHARS = 100

#: How bodies begin that are compressed: gzip (RFC 1952), zstd (RFC 8878), zlib (RFC 1950).
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x78\x01", b"\x78\x9c", b"\x78\xda")

#: What the messages of Python's reader mean, by how they begin; its releases word some of them in their own way.
_PROBLEMS = (
    ("Expecting value", "no JSON value begins there; text needs double quotes"),
    ("Expecting property name", "a name in double quotes is missing there"),
    ("Expecting ':'", "a colon is missing there"),
    ("Expecting ','", "a comma is missing there"),
    ("Illegal trailing comma", "a comma must not stand before a closing bracket"),
    ("Unterminated string", "the string that begins there has no end"),
    ("Invalid control character", "a line break or another control character must be escaped, like \\n"),
    ("Invalid \\", "JSON has no such escape after a backslash"),
    ("Extra data", "there the JSON is over, and something follows it"),
)


@dataclass(frozen=True)
class _Unusable:
    """Stands in a parsed value for a number that JSON cannot write, or that is too large to be read."""

    wrong: str


def explain(raw: bytes) -> str:
    """Return what keeps a body from being read as JSON, as a sentence without its end. ``raw`` must be such a body.

    Raises RecursionError for JSON that is nested too deeply.
    """
    if not raw.strip():
        return "the body is empty; send JSON"
    if raw.startswith(_COMPRESSED):
        return "the body is compressed; send plain JSON"
    encoding = json.detect_encoding(raw)
    if not encoding.startswith("utf-8"):
        return f"the body is written in {encoding[:6].upper()}; send JSON as UTF-8"
    try:
        return _explain_text(raw.decode(encoding))
    except UnicodeDecodeError as error:
        return f"the body is not JSON: byte {error.start + 1} is not UTF-8"


def _explain_text(text: str) -> str:
    try:
        value = json.loads(text, parse_constant=_unusable_constant, parse_float=_read_float, parse_int=_read_int)
    except json.JSONDecodeError as error:
        return f"the body is not JSON: line {error.lineno}, column {error.colno}: {_describe(error, text)}"
    for path, found in _find_unusable(value):
        return f"{path!r} {found.wrong}"
    return "the body is not JSON"


def _describe(error: json.JSONDecodeError, text: str) -> str:
    if error.pos >= len(text.rstrip()):
        return "the body ends too early"
    for beginning, meaning in _PROBLEMS:
        if error.msg.startswith(beginning):
            return meaning
    return "it cannot be read from there on"


def _unusable_constant(name: str) -> _Unusable:
    return _Unusable(f"is {name}, which JSON does not have; send a number")


def _read_float(text: str) -> float | _Unusable:
    number = float(text)
    if math.isfinite(number):
        return number
    return _Unusable("is a number that is too large")


def _read_int(text: str) -> int | _Unusable:
    digits = len(text.lstrip("-"))
    if digits > MAX_DIGITS:
        return _Unusable(f"has {digits} digits; a number may have {MAX_DIGITS}")
    return int(text)


def _find_unusable(value: Any, path: str = "") -> Iterator[tuple[str, _Unusable]]:
    """Yield the numbers that cannot be used, each with the path of its field; ``the body`` for the body itself."""
    pending = [(value, path)]
    while pending:
        item, where = pending.pop()
        if isinstance(item, _Unusable):
            yield where[:MAX_PATH_CHARS] or "the body", item
        elif isinstance(item, dict):
            for name, part in item.items():
                pending.append((part, f"{where}.{name[:60]}".removeprefix(".")))
        elif isinstance(item, list):
            pending.extend((part, f"{where}[{index}]") for index, part in enumerate(item))
