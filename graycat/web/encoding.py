"""Writes JSON objects of requests as ``json.dumps`` does, but each value once, however often its object is needed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

#: A text without any of these, read out of JSON that has ASCII only, is written as it is. JSON allows none of the other
#: control characters; NUL marks UTF-16, whose bytes say nothing about its characters.
_ESCAPED = (b"\\", b"\0", b"\x7f")


class JsonWriter:
    """Writes objects that share most of their fields, such as a caller's input and the engine's body made of it.

    ``raw``: the JSON that each text in them was read from; empty if they come from elsewhere, too.
    """

    def __init__(self, raw: bytes = b"") -> None:
        #: Bytes of that JSON.
        self.size = len(raw)
        self._is_plain = raw != b"" and raw.isascii() and not any(byte in raw for byte in _ESCAPED)
        self._written: dict[str, tuple[Any, str]] = {}

    def write(self, fields: Mapping[str, Any]) -> str:
        """Return what ``json.dumps(fields)`` returns."""
        return "".join(_join((name, self._write_value(name, fields[name])) for name in fields))

    def pieces_sorted(self, fields: Mapping[str, Any]) -> Iterator[str]:
        """Yield what ``json.dumps(fields, sort_keys=True)`` returns, in pieces."""
        return _join((name, self._write_sorted_value(name, fields[name])) for name in sorted(fields))

    def _write_value(self, name: str, value: Any) -> str:
        before, text = self._written.get(name, (None, ""))
        # The same object has the same text: nobody changes what was read.
        if text and before is value:
            return text
        if self._is_plain and isinstance(value, str):
            text = f'"{value}"'
        else:
            text = json.dumps(value)
        self._written[name] = (value, text)
        return text

    def _write_sorted_value(self, name: str, value: Any) -> str:
        text = self._write_value(name, value)
        if isinstance(value, str) or "{" not in text:
            # No object in it that could be in another order.
            return text
        return json.dumps(value, sort_keys=True)


def _join(fields: Iterable[tuple[str, str]]) -> Iterator[str]:
    before = "{"
    for name, text in fields:
        yield f"{before}{json.dumps(name)}: "
        # By itself: a text of megabytes is not copied once more.
        yield text
        before = ", "
    if before == "{":
        yield before
    yield "}"
