"""Merges the lists of several image engines into one."""

from __future__ import annotations

import re
from typing import Any

#: Fields that may hold an entry's name; the first one that is set counts.
_NAME_FIELDS = ("title", "name", "model_name", "label")
#: The lists that are JSON objects, not arrays.
_OBJECTS = ("options", "scripts", "embeddings")
#: Settings that give access to the engine's machine or to an account; not ``token_merging_ratio``.
_SECRET = re.compile(r"password|api_key|secret|auth|token$", re.IGNORECASE)


def merge_lists(name: str, lists: list[Any]) -> Any:
    """Return several engines' lists as one, each entry once, the first engine's entries first.

    ``options`` are the first engine's, without secrets: all engines are expected to have the same settings.
    """
    if name == "options":
        # A worker may report anything.
        lists = [values for values in lists if isinstance(values, dict)]
    if not lists:
        if name in _OBJECTS:
            return {}
        return []
    if name == "options":
        return {key: value for key, value in lists[0].items() if not _SECRET.search(key)}
    if len(lists) == 1:
        return lists[0]
    if not isinstance(lists[0], dict):
        return _merge_values(lists)

    merged = {}
    for key in lists[0]:
        merged[key] = _merge_values([engine_list.get(key) for engine_list in lists if isinstance(engine_list, dict)])
    return merged


def _merge_values(values: list[Any]) -> Any:
    """Merge arrays by the names of their entries, or objects by their keys; the first engine's counts."""
    if isinstance(values[0], dict):
        merged: dict[str, Any] = {}
        for value in reversed(values):
            if isinstance(value, dict):
                merged.update(value)
        return merged

    entries: dict[str, Any] = {}
    for value in values:
        if isinstance(value, list):
            for entry in value:
                entries.setdefault(_entry_name(entry), entry)
    return list(entries.values())


def _entry_name(entry: Any) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    name = repr(entry)
    for field in _NAME_FIELDS:
        if entry.get(field):
            name = str(entry[field])
            break
    if "is_img2img" in entry:
        # A script is listed twice, for txt2img and img2img, with different arguments.
        return f"{name} {entry['is_img2img']}"
    return name
