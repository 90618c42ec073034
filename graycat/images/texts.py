"""Finds the texts in a JSON value, each with its path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

#: Longer paths are cut.
MAX_PATH_CHARS = 200


def walk_texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield path and text of each string in a JSON value, at any depth. A name in an object counts as one, too.

    Paths are like ``alwayson_scripts.ControlNet.args[0].image``.
    """
    pending = [(path, value)]
    while pending:
        where, item = pending.pop()
        if isinstance(item, str):
            yield where, item
        elif isinstance(item, dict):
            for name, part in item.items():
                part_path = f"{where}.{name}"[:MAX_PATH_CHARS] if where else str(name)[:MAX_PATH_CHARS]
                yield part_path, str(name)
                pending.append((part_path, part))
        elif isinstance(item, list):
            for index, part in enumerate(item):
                # Lists of numbers may be long.
                if isinstance(part, (str, dict, list)):
                    pending.append((f"{where}[{index}]"[:MAX_PATH_CHARS], part))
