"""Reading one document: each field by its path, every problem noted instead of raised."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from graycat.errors import GraycatError

T = TypeVar("T")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Problems:
    """What is wrong with a document, each with the path of its field."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def note(self, path: str, message: str) -> None:
        """Note a problem, once."""
        if (path, message) not in self.found:
            self.found.append((path, message))

    def attempt(self, path: str, action: Callable[[], T]) -> T | None:
        """Return what an action returns; where it raises, note why and return None."""
        try:
            return action()
        except (GraycatError, ValueError, RecursionError) as error:
            self.note(path, str(error))
            return None


class Reader:
    """Takes the fields out of an object, and notes those that are left."""

    def __init__(self, document: Mapping[str, Any], path: str, problems: Problems) -> None:
        self._left = dict(document)
        self._path = path
        self.problems = problems

    def path(self, name: str) -> str:
        """Return the path of a field."""
        return f"{self._path}.{name}" if self._path else name

    def take(self, name: str) -> Any:
        """Return a field as it is; None where it is absent."""
        return self._left.pop(name, None)

    def text(self, name: str, default: str = "", most: int = 200, *, lines: bool = False) -> str:
        """Return a field that is a text, of one line unless it may have ``lines``."""
        value = self._left.pop(name, None)
        if value is None:
            return default
        if isinstance(value, str) and value.strip() and len(value) <= most and (lines or value.isprintable()):
            return value.strip()
        self.problems.note(self.path(name), f"must be a text of 1 to {most} characters")
        return default

    def count(self, name: str, least: int, most: int, default: int | None = None) -> int | None:
        """Return a field that is a whole number."""
        value = self._left.pop(name, None)
        if value is None:
            return default
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.problems.note(self.path(name), f"must be a whole number from {least} to {most}")
        return default

    def duration(self, name: str, most_s: float) -> float | None:
        """Return a field that is a length of time, in seconds: a number of them, or a text such as ``6h``."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        found = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if found:
            value = float(found[1]) * _UNITS[found[2]]
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= most_s:
            return float(value)
        self.problems.note(
            self.path(name), f"must be seconds, or like 90s, 30m, 6h, 2d; {most_s / 86400:.0f} d at most"
        )
        return None

    def part(self, name: str, wrap: str = "") -> Reader | None:
        """Return a reader of a field that is an object; a text is an object whose only field is ``wrap``."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        if wrap and isinstance(value, str):
            value = {wrap: value}
        if isinstance(value, dict):
            return Reader(value, self.path(name), self.problems)
        self.problems.note(self.path(name), "must be an object")
        return None

    def end(self, known: Iterable[str]) -> None:
        """Note every field that nobody took."""
        for name in self._left:
            self.problems.note(self.path(str(name)[:60]), f"is no field here; there are {', '.join(known)}")
