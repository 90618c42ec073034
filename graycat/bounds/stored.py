"""JSON that graycat has not checked: what the broker holds, and what engines answer."""

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
