"""Checkpoints by name, as a WebUI finds them: by any of their names, or by a part of the title."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

#: Fields of an entry of ``/sd-models`` by which a request may name a checkpoint; also by the file's name alone.
ALIASES = ("title", "model_name", "hash", "sha256", "filename")
#: A shorter part of a title is a typing mistake rather than a name.
MIN_PART_CHARS = 3
_EXTENSION = re.compile(r"\.(safetensors|ckpt|gguf|pth?|sft)\b")


def title_of(model: Any) -> str:
    """Return the name of an entry of ``/sd-models`` that an engine takes; '' if it has none."""
    if not isinstance(model, Mapping):
        return ""
    return str(model.get("title") or model.get("model_name") or "")


def find_checkpoint(name: str, models: Iterable[Any]) -> str:
    """Return the title of the checkpoint that a name means; '' if there is none.

    A whole name (title, file, hash), whatever its case, goes before a part of a title. Of several titles with that part
    the shortest is meant, as in A1111 v1.10.1's ``get_closet_checkpoint_match``.
    """
    entries = list(models)
    for model in entries:
        if is_called(model, name):
            return title_of(model)
    # All titles end with the same few extensions.
    part = _EXTENSION.sub("", name.lower())
    titles = []
    for title in map(title_of, entries):
        if len(part) >= MIN_PART_CHARS and part in _EXTENSION.sub("", title.lower()):
            titles.append(title)
    return min(titles, key=lambda title: (len(title), title), default="")


def is_called(model: Any, name: str) -> bool:
    """Return whether an entry has a name, whatever its case."""
    if not isinstance(model, Mapping):
        return False
    wanted = name.lower()
    for alias in ALIASES:
        value = str(model.get(alias) or "")
        # A title ends with a short hash in brackets; a file name is the last part of a path of any system.
        file = value.replace("\\", "/").rpartition("/")[2]
        for text in (value, file):
            if text and wanted in (text.lower(), text.partition(" [")[0].lower()):
                return True
    return False
