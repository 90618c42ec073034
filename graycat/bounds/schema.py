"""Bounds of JSON schemas, which an engine turns into a grammar.

Every object is read as a schema, whatever it is in: that refuses nothing that real schemas have, and leaves no place to
hide one. Source: llama.cpp's ``common/json-schema-to-grammar.cpp``.
"""

from __future__ import annotations

from typing import Any

from graycat.bounds.budget import SPELLED_OUT, Budget, Place, name_place, refuse
from graycat.bounds.grammar import check_pattern
from graycat.errors import RequestError

#: How generators write "no limit": the largest 32-bit integer.
UNLIMITED = 2**31 - 1
#: A reference may lead to another one, so many times.
MAX_REFERENCE_CHAIN = 32
#: Digits of an array's index in a reference.
MAX_INDEX_DIGITS = 6


def check_schema(schema: Any, budget: Budget, place: Place) -> None:
    """Check a schema with everything that it refers to. Raises RequestError, TooComplex."""
    if isinstance(schema, (dict, list)):
        _SchemaReader(schema, budget, place).read()


class _SchemaReader:
    """Walks one schema, and once more what each reference in it leads to: so does the engine."""

    def __init__(self, schema: Any, budget: Budget, place: Place) -> None:
        self._root = schema
        self._budget = budget
        self._place = place
        #: What is still to be walked, with the number of times that the engine reads it.
        self._waiting: list[tuple[Any, Place, int]] = []
        self._references: set[str] = set()
        #: Definitions by name, wherever they stand: llama.cpp moves all of them to the root. None: not looked for yet.
        self._definitions: dict[str, Any] | None = None

    def read(self) -> None:
        """Walk all of it."""
        self._waiting.append((self._root, self._place, 1))
        while self._waiting:
            value, place, times = self._waiting.pop()
            self._budget.add_nodes(times * len(value) + 1, place)
            parts: Any = enumerate(value)
            if isinstance(value, dict):
                times = self._read_object(value, place, times)
                parts = value.items()
            for key, part in parts:
                if isinstance(part, (dict, list)):
                    readings = times
                    if key in _DEFINITIONS and not _holds_properties(place):
                        # Read only where something refers to it.
                        readings = 0
                    self._waiting.append((part, (place, key), readings))

    def _read_object(self, value: dict[str, Any], place: Place, times: int) -> int:
        """Check the keywords of one object; return how often the engine reads what lies in it."""
        if isinstance(value.get("type"), list):
            times *= _count_readings(value)
        if _KEYWORDS.isdisjoint(value):
            return times
        for keyword, setting, what in _SIZES:
            part = value.get(keyword)
            if isinstance(part, (dict, list)):
                self._budget.check(len(part), setting, what, (place, keyword))
        self._check_counts(value, "minItems", "maxItems", place, times, UNLIMITED)
        self._check_counts(value, "minLength", "maxLength", place, times, SPELLED_OUT)
        pattern = value.get("pattern")
        if isinstance(pattern, str):
            check_pattern(pattern, self._budget, (place, "pattern"))
        reference = value.get("$ref")
        if isinstance(reference, str):
            self._follow(reference, place)
        return times

    def _check_counts(self, value: dict[str, Any], least: str, most: str, place: Place, times: int, cap: int) -> None:
        """Check the counts of an array's items or a text's characters; above ``cap`` they cost an engine no more."""
        if least not in value and most not in value:
            return
        low = _read_count(value.get(least), (place, least)) or 0
        high = _read_count(value.get(most), (place, most))
        if high == UNLIMITED:
            high = None
        key = least
        if high is not None:
            key = most
        self._budget.check_range(low, high, (place, key))
        self._budget.add_repetition(times * min(max(low, high or 0), cap), (place, key))

    def _follow(self, reference: str, place: Place) -> None:
        """Walk what a reference leads to, if it is new. Raises RequestError if it leads to itself and nothing else."""
        if reference in self._references:
            return
        self._references.add(reference)
        target = self._resolve(reference)
        if isinstance(target, (dict, list)):
            self._waiting.append((target, (self._place, reference), 1))
        for _ in range(MAX_REFERENCE_CHAIN):
            if not isinstance(target, dict) or not isinstance(target.get("$ref"), str):
                return
            target = self._resolve(target["$ref"])
        raise RequestError(
            f"{name_place((place, '$ref'))} leads from reference to reference, more than {MAX_REFERENCE_CHAIN} times"
        )

    def _resolve(self, reference: str) -> Any:
        """Return what a reference within the schema names; None for any other."""
        if self._definitions is None and reference.startswith("#/$defs/"):
            self._definitions = find_definitions(self._root)
        return resolve(self._root, reference, self._definitions)


def resolve(root: Any, reference: str, definitions: dict[str, Any] | None = None) -> Any:
    """Return what a reference within a schema names; None for any other. ``definitions``: those of the schema."""
    if not reference.startswith("#/"):
        # An engine fetches nothing.
        return None
    keys = reference.split("/")[1:]
    target = _walk(root, keys)
    if target is None and keys[0] == "$defs" and len(keys) > 1:
        if definitions is None:
            definitions = find_definitions(root)
        target = _walk(definitions.get(keys[1]), keys[2:])
    return target


def find_definitions(root: Any) -> dict[str, Any]:
    """Return the definitions of a schema by name, wherever they stand: llama.cpp moves all of them to the root."""
    found: dict[str, Any] = {}
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            named = value.get("$defs")
            if isinstance(named, dict):
                for name, definition in named.items():
                    found.setdefault(name, definition)
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return found


#: Keywords whose length counts, by the setting that limits it.
_SIZES = (
    ("properties", "max_schema_properties", "properties"),
    ("enum", "max_grammar_alternatives", "alternatives"),
    ("anyOf", "max_grammar_alternatives", "alternatives"),
    ("oneOf", "max_grammar_alternatives", "alternatives"),
    ("allOf", "max_grammar_alternatives", "parts"),
)
#: Keywords whose schemas are not part of the grammar by themselves.
_DEFINITIONS = ("$defs", "definitions")
_KEYWORDS = frozenset(keyword for keyword, _, _ in _SIZES) | {
    *("minItems", "maxItems", "minLength", "maxLength", "pattern", "$ref"),
}


def _holds_properties(place: Place) -> bool:
    """Return whether the keys of the object at a place are names of properties, and not keywords."""
    holds = False
    while place is not None and place[1] == "properties":
        holds = not holds
        place = place[0]
    return holds


def _count_readings(schema: dict[str, Any]) -> int:
    """Return how often llama.cpp reads the parts of a schema: once for each of its types, as far as they share them."""
    types = schema["type"]
    names = [name for name in types if isinstance(name, str)]
    if "allOf" in schema:
        return max(len(types), 1)
    return len(types) - len(set(names)) + 1


def _read_count(value: Any, place: Place) -> int | None:
    """Return a count; None for what is no number. Raises RequestError for one below zero."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if value < 0:
        refuse(place, "must not be below 0")
    return int(value)


def _walk(value: Any, keys: list[str]) -> Any:
    """Return what a JSON pointer names; None if there is nothing."""
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key.isascii() and key.isdecimal() and len(key) <= MAX_INDEX_DIGITS:
            value = next(iter(value[int(key) : int(key) + 1]), None)
        else:
            return None
    return value
