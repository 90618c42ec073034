"""Names that image engines list and replace in silence if they do not know them: samplers, schedulers, upscalers, VAEs.

A WebUI takes its first sampler for one that it does not know, sd-server its default one, each without a word. So a name
is held against the engine's own lists before the work, and written as that engine writes it. Two spellings are the same
name if they differ by case, spaces and dashes, or by the names of k-diffusion (``k_euler_ancestral`` is ``Euler a``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

Body = dict[str, Any]
Catalog = Mapping[str, Any]

#: Names that leave the choice to the engine.
AUTOMATIC = frozenset({"", "automatic", "default"})
#: Folded names of the same thing in different engines.
_SAME = {"ddimtrailing": "ddim", "ays": "alignyoursteps"}
_FOLDED_AWAY = re.compile(r"[\s_-]+")
#: The most words of a scheduler's name ("Align Your Steps").
_MAX_WORDS = 3
_CLOSE = 0.5


def fold(name: str) -> str:
    """Return what all spellings of a sampler's or scheduler's name have in common."""
    text = _FOLDED_AWAY.sub(" ", name.lower()).strip().removeprefix("k ")
    text = text.replace("ancestral", "a").replace("dpmpp", "dpm++").replace(" ", "")
    return _SAME.get(text, text)


@dataclass(frozen=True)
class NamedField:
    """A field that names something of an engine. ``path``: where it is in a body, with dots.

    ``lists``: the engine's lists that hold such names. A name is checked if the engine has all of them. ``keys``: the
    fields of an entry that may hold its name, the engine's own spelling first. ``words``: names that need no entry.
    """

    path: str
    what: str
    lists: tuple[str, ...]
    keys: tuple[str, ...] = ("name",)
    words: frozenset[str] = AUTOMATIC

    def read(self, body: Body) -> list[str]:
        """Return the names in a body; none if the field is absent, or no text and no list of texts."""
        value: Any = body
        for key in self.path.split("."):
            if not isinstance(value, Mapping):
                return []
            value = value.get(key)
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list):
            return []
        return [name for name in value if isinstance(name, str)]

    def write(self, body: Body, name: str | None) -> Body:
        """Return a body with a name in this field; without the field if it is None."""
        head, _, tail = self.path.partition(".")
        if tail:
            return body | {head: body[head] | {tail: name}}
        changed = body | {head: name}
        if name is None:
            del changed[head]
        return changed

    def known(self, catalog: Catalog) -> dict[str, str] | None:
        """Return the engine's own spellings of the names that it lists, by their folded spellings.

        None if it lists none: then it cannot be told which names it knows.
        """
        spellings: dict[str, str] = {}
        for name in self.lists:
            entries = catalog.get(name)
            if not isinstance(entries, list):
                return None
            for entry in entries:
                own = _own_name(entry, self.keys)
                for text in _names(entry, self.keys):
                    spellings.setdefault(fold(text), own)
        return spellings


def _names(entry: Any, keys: tuple[str, ...]) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    if not isinstance(entry, Mapping):
        return
    for key in (*keys, "aliases"):
        value = entry.get(key)
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and text:
                yield text


def _own_name(entry: Any, keys: tuple[str, ...]) -> str:
    return next(_names(entry, keys), "")


SAMPLER = NamedField("sampler_name", "sampler", ("samplers",))
SCHEDULER = NamedField("scheduler", "scheduler", ("schedulers",), ("name", "label"))
_SAME_SAMPLER = AUTOMATIC | {"usesamesampler", "sameasprimary"}
_SAME_SCHEDULER = AUTOMATIC | {"usesamescheduler"}
HR_SAMPLER = NamedField("hr_sampler_name", "sampler", ("samplers",), words=_SAME_SAMPLER)
HR_SCHEDULER = NamedField("hr_scheduler", "scheduler", ("schedulers",), ("name", "label"), _SAME_SCHEDULER)
_NO_VAE = frozenset({"", "automatic", "none"})
_NO_UPSCALER = frozenset({"", "none"})
#: All fields that are checked by name alone; samplers have rules of their own.
PLAIN_FIELDS = (
    HR_SCHEDULER,
    NamedField("hr_upscaler", "upscaler", ("latent-upscale-modes", "upscalers"), words=_NO_UPSCALER),
    NamedField("upscaler_1", "upscaler", ("upscalers",), words=_NO_UPSCALER),
    NamedField("upscaler_2", "upscaler", ("upscalers",), words=_NO_UPSCALER),
    NamedField("override_settings.sd_vae", "VAE", ("sd-vae",), ("model_name",), _NO_VAE),
    NamedField("override_settings.forge_additional_modules", "module", ("sd-modules",), ("model_name",)),
    NamedField("styles", "style", ("prompt-styles",)),
)
#: All fields with names that are checked.
NAMED_FIELDS = (SAMPLER, NamedField("sampler_index", "sampler", ()), SCHEDULER, HR_SAMPLER, *PLAIN_FIELDS)


@dataclass(frozen=True)
class Unknown:
    """A name that an engine does not have. ``nearest``: names of it that are spelt like it."""

    path: str
    what: str
    name: str
    nearest: tuple[str, ...] = ()


@dataclass
class Resolved:
    """A body as one engine spells it, and the names in it that this engine does not have."""

    body: Body
    unknown: list[Unknown] = field(default_factory=list)


def resolve(body: Body, catalog: Catalog) -> Resolved:
    """Return a body with the names of samplers and others as the engine of a catalog spells them."""
    resolved = Resolved(_move_sampler_index(body, catalog))
    _resolve_sampler(resolved, SAMPLER, SCHEDULER, catalog)
    if resolved.body.get("sampler_name") and not body.get("sampler_name"):
        # The caller looks for the field that it wrote.
        resolved.unknown = [replace(unknown, path="sampler_index") for unknown in resolved.unknown]
    _resolve_sampler(resolved, HR_SAMPLER, HR_SCHEDULER, catalog)
    _resolve_plain(resolved, SCHEDULER, catalog)
    for named in PLAIN_FIELDS:
        _resolve_plain(resolved, named, catalog)
    return resolved


def _move_sampler_index(body: Body, catalog: Catalog) -> Body:
    """Return a body whose ``sampler_index``, the WebUI's old field for a sampler's name, is in ``sampler_name``."""
    old = body.get("sampler_index")
    if body.get("sampler_name") or not isinstance(old, str) or SAMPLER.known(catalog) is None:
        return body
    return body | {"sampler_name": old}


def _resolve_sampler(resolved: Resolved, named: NamedField, scheduler: NamedField, catalog: Catalog) -> None:
    """Resolve a sampler's name, which may end with a scheduler's, as it did before the WebUI parted the two (1.9)."""
    samplers = named.known(catalog)
    for name in named.read(resolved.body):
        if samplers is None:
            return
        own = samplers.get(fold(name))
        if own is not None:
            _set(resolved, named, name, own)
        elif fold(name) in AUTOMATIC:
            # The engine's own choice, by a word that it may not know.
            resolved.body = named.write(resolved.body, None)
        elif fold(name) not in named.words and not _split(resolved, named, scheduler, name, catalog):
            resolved.unknown.append(_describe(named, name, samplers))


def _split(resolved: Resolved, named: NamedField, scheduler: NamedField, name: str, catalog: Catalog) -> bool:
    """Write a name like "DPM++ 2M Karras" as a sampler and a scheduler; return False if it is none."""
    samplers = named.known(catalog) or {}
    schedulers = scheduler.known(catalog) or {}
    words = name.replace("_", " ").split()
    for count in range(1, min(_MAX_WORDS, len(words) - 1) + 1):
        own = samplers.get(fold(" ".join(words[:-count])))
        tail = schedulers.get(fold(" ".join(words[-count:])))
        if own is None or tail is None:
            continue
        _set(resolved, named, name, own)
        asked = scheduler.read(resolved.body)
        if not asked or fold(asked[0]) in scheduler.words:
            resolved.body = scheduler.write(resolved.body, tail)
        return True
    return False


def _resolve_plain(resolved: Resolved, named: NamedField, catalog: Catalog) -> None:
    names = named.read(resolved.body)
    if not names:
        return
    known = named.known(catalog)
    if known is None:
        return
    for name in names:
        own = known.get(fold(name))
        if own is not None:
            if len(names) == 1 and named.what in ("scheduler", "upscaler"):
                _set(resolved, named, name, own)
        elif fold(name) not in named.words:
            resolved.unknown.append(_describe(named, name, known))
        elif named is SCHEDULER:
            resolved.body = named.write(resolved.body, None)


def _set(resolved: Resolved, named: NamedField, name: str, own: str) -> None:
    if own != name:
        resolved.body = named.write(resolved.body, own)


def _describe(named: NamedField, name: str, known: Mapping[str, str]) -> Unknown:
    close = get_close_matches(fold(name), list(known), n=3, cutoff=_CLOSE)
    return Unknown(named.path, named.what, name, tuple(dict.fromkeys(known[text] for text in close)))
