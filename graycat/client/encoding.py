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
    pending = [(value, "")]
    seen: set[int] = set()
    while pending:
        item, path = pending.pop()
        if isinstance(item, (Mapping, list, tuple)):
            if id(item) in seen:
                continue
            seen.add(id(item))
        if isinstance(item, Mapping):
            for name, part in item.items():
                if not isinstance(name, (str, int, float)) and name is not None:
                    yield path or str(name), f"an object with a name of the type {type(name).__name__}"
                pending.append((part, f"{path}.{name}".removeprefix(".")))
        elif isinstance(item, (list, tuple)):
            pending.extend((part, f"{path}[{index}]") for index, part in enumerate(item))
        elif isinstance(item, float) and not math.isfinite(item):
            yield path, f"no finite number ({item})"
        elif not isinstance(item, (str, int, float)) and item is not None:
            yield path, f"of the type {type(item).__name__}"
