"""Reads the fields of a document and collects every problem instead of raising at the first."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from graycat.bounds.names import MAX_CHARS, suggest
from graycat.errors import GraycatError

T = TypeVar("T")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Problems:
    """The problems of a document, each as the path of its field and a message."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def add(self, path: str, message: str) -> None:
        """Add a problem, unless it was added before."""
        if (path, message) not in self.found:
            self.found.append((path, message))

    def add_unknown(self, path: str, name: str, known: Collection[str], meant: Mapping[str, str]) -> None:
        """Add the problem of a field that there is not. ``known`` and ``meant``: as for ``names.suggest``."""
        suggestion = suggest(name, known, meant)
        if suggestion:
            suggestion = f"; {suggestion}"
        self.add(path, f"is not a known field{suggestion}")

    def attempt(self, path: str, action: Callable[[], T]) -> T | None:
        """Return what ``action`` returns. If it raises, add the error as a problem and return None."""
        try:
            return action()
        except (GraycatError, ValueError, RecursionError) as error:
            self.add(path, str(error))
            return None


class FieldReader:
    """Takes the fields out of an object one by one. Problems are added to ``problems``."""

    def __init__(self, document: Mapping[str, Any], path: str, problems: Problems) -> None:
        self._remaining = dict(document)
        self._path = path
        self.problems = problems

    def path(self, name: str) -> str:
        """Return the path of a field."""
        return f"{self._path}.{name}" if self._path else name

    def add_problem(self, name: str, message: str) -> None:
        """Add a problem of a field."""
        self.problems.add(self.path(name), message)

    def take(self, name: str) -> Any:
        """Return a field unchecked; None if it is absent."""
        return self._remaining.pop(name, None)

    def read_text(self, name: str, default: str = "", max_chars: int = 200, *, multiline: bool = False) -> str:
        """Return a field that must be a text, of one line unless ``multiline``."""
        value = self.take(name)
        if value is None:
            return default
        if isinstance(value, str) and value.strip() and len(value) <= max_chars and (multiline or value.isprintable()):
            return value.strip()
        self.add_problem(name, f"must be a text of 1 to {max_chars} characters")
        return default

    def read_count(self, name: str, minimum: int, maximum: int, default: int | None = None) -> int | None:
        """Return a field that must be a whole number."""
        value = self.take(name)
        if value is None:
            return default
        if isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum:
            return value
        self.add_problem(name, f"must be a whole number from {minimum} to {maximum}")
        return default

    def read_duration(self, name: str, max_s: float) -> float | None:
        """Return a field that must be a duration, in seconds: a number of seconds, or a text like ``6h``."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, str):
            match = _DURATION.fullmatch(value)
            if match:
                value = float(match[1]) * _UNITS[match[2]]
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= max_s:
            return float(value)
        self.add_problem(name, f"must be seconds, or like 90s, 30m, 6h, 2d; {max_s / 86400:.0f} d at most")
        return None

    def read_object(self, name: str, text_field: str = "") -> FieldReader | None:
        """Return a reader of a field that must be an object. A text stands for an object with only ``text_field``."""
        value = self.take(name)
        if value is None:
            return None
        if text_field and isinstance(value, str):
            value = {text_field: value}
        if isinstance(value, dict):
            return FieldReader(value, self.path(name), self.problems)
        self.add_problem(name, "must be an object")
        return None

    def refuse_unknown(self, known: Collection[str], meant: Mapping[str, str] = MappingProxyType({})) -> None:
        """Add a problem for every field that was not taken, with the nearest of the ``known`` ones.

        ``meant``: as for ``names.suggest``.
        """
        for name in self._remaining:
            self.problems.add_unknown(self.path(str(name)[:MAX_CHARS]), str(name), known, meant)
