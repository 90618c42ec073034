"""JSON that graycat has not checked: what the broker holds, and what engines answer; read, and written again."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text. Raises ValueError for anything else, also if it is nested too deeply.

    Python raises RecursionError for that, which few who read JSON expect.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def write_json(value: Any) -> bytes:
    """Return the shortest JSON of a value that came out of JSON, in UTF-8.

    Text with half a character (an unpaired surrogate) has no UTF-8: then all of it is written in ASCII, where the half
    stands as the escape that it came as.
    """
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()
