"""What a caller hands over as JSON, or the place in it that JSON cannot write."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from graycat.client.errors import InvalidArgument


def encode(fields: Mapping[str, Any], what: str) -> bytes:
    """Return the JSON of an object. Raises InvalidArgument, which names the field; ``what`` it is, as in "the task".

    It is encoded once, so that a repeated request sends the same bytes.
    """
    try:
        return json.dumps(dict(fields), allow_nan=False).encode()
    except (ValueError, TypeError, RecursionError):
        for path, wrong in _find_unusable(fields):
            raise InvalidArgument(f"{what} cannot be sent as JSON: {path!r} is {wrong}") from None
        raise InvalidArgument(f"{what} cannot be sent as JSON: it holds itself, or is nested too deeply") from None


def _find_unusable(value: Any) -> Iterator[tuple[str, str]]:
    """Yield the places of values that JSON cannot write, and what they are. What holds itself is looked at once."""
    pending = [("", value)]
    seen: set[int] = set()
    while pending:
        path, item = pending.pop()
        wrong = _describe(item)
        if wrong:
            yield path, wrong
        elif id(item) not in seen and isinstance(item, (Mapping, list, tuple)):
            seen.add(id(item))
            pending.extend(_parts(path, item))


def _describe(item: Any) -> str:
    """Return what is wrong with a value; '' if nothing is, not counting its parts."""
    if isinstance(item, float) and not math.isfinite(item):
        return f"no finite number ({item})"
    if isinstance(item, Mapping):
        for name in item:
            if not isinstance(name, (str, int, float)) and name is not None:
                return f"an object with a name of the type {type(name).__name__}"
    elif not isinstance(item, (str, int, float, list, tuple)) and item is not None:
        return f"of the type {type(item).__name__}"
    return ""


def _parts(path: str, item: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(item, Mapping):
        for name, part in item.items():
            yield f"{path}.{name}".removeprefix("."), part
    else:
        for index, part in enumerate(item):
            yield f"{path}[{index}]", part
