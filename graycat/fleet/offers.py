"""What the live image engines offer: the samplers, schedulers, upscalers, styles, ... that their lists name.

An engine that does not know a value takes its default without a word (``docs/images.md``). Samplers and schedulers may
be spelt in any known way, because workers write them as their engine does; other names are compared as written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graycat.bounds.names import find_nearest
from graycat.fleet.catalogs import workers_with
from graycat.images.checkpoints import ALIASES
from graycat.images.engine_names import resolve
from graycat.images.networks import is_listed

#: Values of one field that are looked up, and names of one list: any engine may list any number.
MAX_NAMES = 20_000
_SAMPLERS, _SCHEDULERS, _CHECKPOINTS, _LORAS = "samplers", "schedulers", "sd-models", "loras"
_UPSCALERS = ("upscalers", "latent-upscale-modes")


@dataclass(frozen=True)
class Listed:
    """Where the values of a field are listed. ``always``: those that every engine takes, in small letters."""

    lists: tuple[str, ...]
    noun: str
    always: frozenset[str] = frozenset()


_CHECKPOINT = Listed((_CHECKPOINTS,), "checkpoint", frozenset({"none", "use same checkpoint"}))
_SAMPLER = Listed((_SAMPLERS,), "sampler", frozenset({"default", "same as primary", "use same sampler"}))
_SCHEDULER = Listed((_SCHEDULERS,), "scheduler", frozenset({"automatic", "default", "use same scheduler"}))
LORA_FIELD, STYLES_FIELD = "lora in the prompt", "styles"

#: By a field of a request.
FIELDS: Mapping[str, Listed] = {
    "sampler_name": _SAMPLER,
    "sampler_index": _SAMPLER,
    "hr_sampler_name": _SAMPLER,
    "scheduler": _SCHEDULER,
    "hr_scheduler": _SCHEDULER,
    "hr_upscaler": Listed(_UPSCALERS, "upscaler", frozenset({"none", "latent"})),
    "refiner_checkpoint": _CHECKPOINT,
    "hr_checkpoint_name": _CHECKPOINT,
    "override_settings.sd_model_checkpoint": _CHECKPOINT,
    "override_settings.sd_vae": Listed(("sd-vae", "sd-modules"), "VAE", frozenset({"automatic", "none"})),
    STYLES_FIELD: Listed(("prompt-styles",), "style", frozenset({"none"})),
    LORA_FIELD: Listed((_LORAS,), "LoRA"),
}
#: Keys of an entry of each list by which a request may name it.
_KEYS = ("name", "label", "model_name", "alias", "title")
_LORA = re.compile(r"<lora:([^:<>]{1,200})")


def loras_in(prompt: str) -> Iterator[str]:
    """Yield the names of the LoRAs that a prompt calls, as AUTOMATIC1111 writes them: ``<lora:NAME:1>``."""
    for match in _LORA.finditer(prompt):
        yield match[1]


class Offers:
    """What engines offer together. ``catalogs``: their lists by path, by the name of their worker."""

    def __init__(self, catalogs: Mapping[str, Mapping[str, Any]]) -> None:
        self._catalogs = catalogs
        self._names: dict[str, frozenset[str]] = {}

    def can_tell(self, field: str) -> bool:
        """Return whether any engine lists the values of a field."""
        return any(self._list_names(path) for path in FIELDS[field].lists)

    def complain(self, field: str, value: str) -> str:
        """Return what is wrong with a value: no live engine lists it. '' if one does, or none lists any."""
        listed = FIELDS[field]
        bare = value.strip()
        if not bare or bare.lower() in listed.always or not self.can_tell(field) or self._has(listed, bare):
            return ""
        known = frozenset().union(*(self._list_names(path) for path in listed.lists))
        nearest = find_nearest(value, known)
        suggestion = f"; did you mean {nearest!r}?" if nearest else ""
        return f"no engine has the {listed.noun} {value[:100]!r}{suggestion}"

    def _has(self, listed: Listed, value: str) -> bool:
        if listed is _CHECKPOINT:
            return bool(workers_with(value, self._catalogs))
        if any(value in self._list_names(path) for path in listed.lists):
            return True
        if listed.lists == (_LORAS,):
            return any(is_listed(value, _entries(catalog, _LORAS)) for catalog in self._catalogs.values())
        return listed in (_SAMPLER, _SCHEDULER) and self._can_spell(listed, value)

    def _can_spell(self, listed: Listed, value: str) -> bool:
        """Return whether an engine knows a sampler or a scheduler, by any of its spellings."""
        field = "sampler_name" if listed is _SAMPLER else "scheduler"
        for catalog in self._catalogs.values():
            lists = {path: entries for path, entries in catalog.items() if path in (_SAMPLERS, _SCHEDULERS)}
            if isinstance(lists.get(listed.lists[0]), list) and not resolve({field: value}, lists).unknown:
                return True
        return False

    def _list_names(self, path: str) -> frozenset[str]:
        if path not in self._names:
            self._names[path] = frozenset(self._read_names(path))
        return self._names[path]

    def _read_names(self, path: str) -> Iterator[str]:
        """Yield the names in a list of all engines. An engine may answer anything."""
        for catalog in self._catalogs.values():
            for entry in _entries(catalog, path)[:MAX_NAMES]:
                if isinstance(entry, str):
                    yield entry
                elif isinstance(entry, dict):
                    yield from _names_of(entry, ALIASES if path == _CHECKPOINTS else _KEYS)


def _entries(catalog: Mapping[str, Any], path: str) -> list[Any]:
    """Return the entries of a list; none if the engine has no such list."""
    entries = catalog.get(path)
    return entries if isinstance(entries, list) else []


def _names_of(entry: Mapping[str, Any], keys: tuple[str, ...]) -> Iterator[str]:
    for key in keys:
        if isinstance(entry.get(key), str) and entry[key]:
            yield entry[key]
    aliases = entry.get("aliases")
    if isinstance(aliases, list):
        for alias in aliases:
            if isinstance(alias, str):
                yield alias
