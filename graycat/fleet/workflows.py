"""Operators' workflows, as the workers of their engines report them in their catalogs under ``workflows``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Types that an input may have; a choice has none.
_TYPES = ("string", "integer", "number", "boolean", None)
_NUMBERS = ("minimum", "maximum")


def workflows_in(catalogs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the workflows by name: ``{"input": schema, "digest", "workers": [names]}``.

    Of workers that have other inputs under the same name, the first one counts. What is no such entry is left out: a
    box may report anything.
    """
    found: dict[str, dict[str, Any]] = {}
    for worker, catalog in sorted(catalogs.items()):
        listed = catalog.get("workflows")
        if not isinstance(listed, dict):
            continue
        for name, entry in listed.items():
            if not isinstance(entry, dict) or not is_schema(entry.get("input")):
                continue
            known = found.setdefault(name, {"input": entry["input"], "digest": entry.get("digest"), "workers": []})
            if known["digest"] == entry.get("digest"):
                known["workers"].append(worker)
    return found


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
