"""The lists of several image engines as one."""

from __future__ import annotations

import re
from typing import Any

#: The read-only lists that WebUI clients ask for; workers report them.
LISTS = (
    *("samplers", "schedulers", "upscalers", "latent-upscale-modes", "sd-models", "sd-vae", "sd-modules"),
    *("hypernetworks", "face-restorers", "realesrgan-models", "prompt-styles", "embeddings", "loras", "scripts"),
    *("script-info", "options"),
)
#: What an entry is known by; the first that it has.
_NAMES = ("title", "name", "model_name", "label")
#: Those that are objects.
_OBJECTS = ("options", "scripts", "embeddings")
#: Settings that open the engine's host, or somebody's account; not ``token_merging_ratio``.
_SECRET = re.compile(r"password|api_key|secret|auth|token$", re.IGNORECASE)


def merged(name: str, lists: list[Any]) -> Any:
    """Return one list of several engines', each entry once, the first engine's first.

    ``options`` are the first engine's, without what nobody should read: the engines of a pool are set up alike.
    """
    if not lists:
        return {} if name in _OBJECTS else []
    if name == "options":
        return {key: value for key, value in lists[0].items() if not _SECRET.search(key)}
    if len(lists) == 1:
        return lists[0]
    if isinstance(lists[0], dict):
        return {key: _joined([found.get(key) for found in lists if isinstance(found, dict)]) for key in lists[0]}
    return _joined(lists)


def _joined(parts: list[Any]) -> Any:
    """Join lists by their entries' names, and objects by their keys."""
    if isinstance(parts[0], dict):
        return {key: value for part in reversed(parts) if isinstance(part, dict) for key, value in part.items()}
    entries: dict[str, Any] = {}
    for part in parts:
        for entry in part if isinstance(part, list) else []:
            entries.setdefault(_name(entry), entry)
    return list(entries.values())


def _name(entry: Any) -> str:
    if isinstance(entry, dict):
        name = next((str(entry[field]) for field in _NAMES if entry.get(field)), repr(entry))
        # A script is listed for each of the two kinds of generation, with arguments of its own.
        return f"{name} {entry['is_img2img']}" if "is_img2img" in entry else name
    return str(entry)
