"""Texts that a terminal would obey, for tests of what prints the texts of others."""

from __future__ import annotations

from typing import Any

#: Sets a window's title, moves the cursor up, and begins a line; C1 and bidi in the end.
EVIL = "\x1b]0;owned\x07\x1b[2A\r\nall is well\x9b31m\u202egnp"
FOUND = frozenset("\x1b\x07\r\x9b\u202e")


def is_clean(text: str) -> bool:
    """Return whether a text has no character that a terminal obeys, and nothing began a line of its own."""
    return not FOUND & set(text) and not any(line.startswith("all is well") for line in text.splitlines())


def poisoned(value: Any) -> Any:
    """Return a JSON value with EVIL behind each string in it."""
    if isinstance(value, dict):
        return {name: poisoned(field) for name, field in value.items()}
    if isinstance(value, list):
        return [poisoned(entry) for entry in value]
    return value + EVIL if isinstance(value, str) else value
