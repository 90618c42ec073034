"""Operators' workflows, as the workers of their engines report them in their catalogs under ``workflows``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Types that an input may have; a choice has none.
_TYPES = ("string", "integer", "number", "boolean", None)
_NUMBERS = ("minimum", "maximum")
#: Of what an engine lacks, so many sentences of so many characters are told.
MAX_MISSING, MAX_SENTENCE = 5, 400


@dataclass(frozen=True)
class Offered:
    """A workflow that workers have. ``input``: the schema of its input.

    ``inputs``: the schemas by the workers that can run it: the choices of one engine may differ from those of another.
    ``missing``: why none can, as sentences.
    """

    input: Mapping[str, Any]
    inputs: Mapping[str, Mapping[str, Any]]
    missing: Sequence[str] = ()


def workflows_in(catalogs: Mapping[str, Mapping[str, Any]]) -> dict[str, Offered]:
    """Return the workflows by name. What is no such entry is left out: a box may report anything.

    Of workers that have other inputs under the same name, the first one counts that can run its own.
    """
    entries: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for worker, catalog in sorted(catalogs.items()):
        listed = catalog.get("workflows")
        for name, entry in listed.items() if isinstance(listed, dict) else ():
            if isinstance(entry, dict) and is_schema(entry.get("input")):
                entries.setdefault(name, []).append((worker, entry))
    return {name: _offered(reported) for name, reported in entries.items()}


def _offered(reported: list[tuple[str, dict[str, Any]]]) -> Offered:
    able = [(worker, entry) for worker, entry in reported if not _missing(entry)]
    _, first = (able or reported)[0]
    inputs = {worker: entry["input"] for worker, entry in able if entry.get("digest") == first.get("digest")}
    return Offered(first["input"], inputs, _missing(first))


def _missing(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a worker says that its engine lacks for a workflow."""
    missing = entry.get("missing")
    if not isinstance(missing, list):
        return ()
    return tuple(sentence[:MAX_SENTENCE] for sentence in missing[:MAX_MISSING] if isinstance(sentence, str))


def is_schema(value: Any) -> bool:
    """Return whether a value is a schema of a workflow's input that can be checked against."""
    if not isinstance(value, dict) or not isinstance(value.get("properties"), dict):
        return False
    required = value.get("required", [])
    if not isinstance(required, list) or not all(name in value["properties"] for name in map(str, required)):
        return False
    return all(_is_property(part) for part in value["properties"].values())


def _is_property(part: Any) -> bool:
    if not isinstance(part, dict) or part.get("type") not in _TYPES:
        return False
    if not isinstance(part.get("enum", []), list):
        return False
    return all(isinstance(part.get(name, 0), (int, float)) for name in _NUMBERS)
