"""Extra networks that a prompt names (``<lora:NAME:1>``), held against what an engine lists.

A WebUI leaves out a network that it does not find, without a word; ComfyUI's template has nothing to load. A name is
compared leniently, because engines differ in it: by name, alias or file, with or without folder and extension, in any
case. So nothing is refused that an engine would find.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from graycat.images.comfyui_fields import is_comfyui
from graycat.images.engine_names import Unknown

#: By a tag's kind: the engine's list of such networks, and what one is called.
_KINDS = {
    "lora": ("loras", "LoRA"),
    "lyco": ("loras", "LoRA"),
    "hypernet": ("hypernetworks", "hypernetwork"),
}
_TAG = re.compile(r"<\s*(lora|lyco|hypernet)\s*:([^:<>]{1,200})", re.IGNORECASE)
#: A WebUI reads no tags in negative prompts.
_PROMPTS = ("prompt", "hr_prompt")
_COMFYUI_PROMPTS = ("prompt", "negative_prompt")
#: Put in by an extension of the engine later.
_WILDCARD = re.compile(r"__.+__")
_KEYS = ("name", "alias", "path")
#: The most names that are compared for the nearest one.
_MAX_COMPARED = 2000


class Named(NamedTuple):
    """A network that a prompt names. ``path``: the field of the prompt; ``kind``: that of the tag."""

    path: str
    kind: str
    name: str


def find_unknown_networks(body: Mapping[str, Any], catalog: Mapping[str, Any]) -> list[Unknown]:
    """Return the networks in a body's prompts that the engine of a catalog does not list.

    A WebUI that lists none may have no such list at all: then nothing is known, and all pass.
    """
    comfyui = is_comfyui(catalog)
    unknown = []
    for named in _names_in(body, _COMFYUI_PROMPTS if comfyui else _PROMPTS):
        path, what = _KINDS[named.kind]
        entries = catalog.get(path)
        if not isinstance(entries, list) or not (entries or comfyui):
            continue
        if not is_listed(named.name, entries):
            unknown.append(Unknown(named.path, what, named.name, tuple(_nearest(named.name, entries))))
    return unknown


def is_listed(name: str, entries: list[Any]) -> bool:
    """Return whether an engine's list (``/sdapi/v1/loras``) has a network of a name."""
    wanted = _forms(name)
    return any(form in wanted for entry in entries for text in _texts(entry) for form in _forms(text))


def _names_in(body: Mapping[str, Any], fields: tuple[str, ...]) -> Iterator[Named]:
    for field in fields:
        text = body.get(field)
        # Most prompts have none.
        if not isinstance(text, str) or "<" not in text:
            continue
        for tag in _TAG.finditer(text):
            if not _WILDCARD.search(tag[2]):
                yield Named(field, tag[1].lower(), tag[2].strip())


def _texts(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, Mapping):
        for key in _KEYS:
            value = entry.get(key)
            if isinstance(value, str) and value:
                yield value


def _forms(name: str) -> tuple[str, str, str]:
    """Return a name as it is, as that of a file, and without the extension; in small letters."""
    text = name.lower().replace("\\", "/")
    file = PurePosixPath(text)
    return text, file.name, file.stem


def _nearest(name: str, entries: list[Any]) -> list[str]:
    names = [next(_texts(entry), "") for entry in entries[:_MAX_COMPARED]]
    by_small = {own.lower(): own for own in names if own}
    return [by_small[small] for small in get_close_matches(name.lower(), list(by_small), n=3, cutoff=0.5)]
