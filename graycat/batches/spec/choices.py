"""The values in a document that name something of an engine's: a sampler, a checkpoint, a style, a LoRA, ..."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graycat.batches.spec.images import PLURALS
from graycat.fleet import offers
from graycat.fleet.offers import Offers

_OVERRIDES = "override_settings"
_PROMPTS = ("prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt")


@dataclass(frozen=True, slots=True)
class Choice:
    """A value of a document. ``path``: where it stands; ``field``: one of ``offers.FIELDS``."""

    path: str
    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Review:
    """What the live engines say of a document. ``problems``: path and message; ``unchecked``: paths."""

    problems: list[tuple[str, str]]
    unchecked: list[str]


def review(document: Mapping[str, Any], found: Offers, most: int = sys.maxsize) -> Review:
    """Compare a document with what the live engines list. ``most``: after so many problems, the rest is left out."""
    problems: list[tuple[str, str]] = []
    unchecked: list[str] = []
    for choice in _distinct_choices(document):
        if not found.can_tell(choice.field):
            unchecked.append(choice.path)
            continue
        complaint = found.complain(choice.field, choice.value)
        if complaint:
            problems.append((choice.path, complaint))
            if len(problems) >= most:
                break
    return Review(problems, unchecked)


def find_missing(document: Mapping[str, Any], found: Offers) -> list[tuple[str, str]]:
    """Return the field of each choice that no live engine lists, and a sentence that begins with its path."""
    missing = []
    for choice in _distinct_choices(document):
        complaint = found.complain(choice.field, choice.value)
        if complaint:
            missing.append((choice.field, f"{choice.path}: {complaint}"))
    return missing


def _distinct_choices(document: Mapping[str, Any]) -> Iterator[Choice]:
    """Yield each choice at its first place: a thousand items may name the same sampler."""
    seen: set[tuple[str, str]] = set()
    for choice in find_choices(document):
        if choice.value.strip() and (choice.field, choice.value) not in seen:
            seen.add((choice.field, choice.value))
            yield choice


def find_choices(document: Mapping[str, Any]) -> Iterator[Choice]:
    """Yield the choices of a document, in the order of its parts; what is no part of one is passed over."""
    defaults = document.get("defaults")
    if isinstance(defaults, dict):
        yield from _choices_of("defaults", defaults)
    items = document.get("items")
    if isinstance(items, list):
        for index, item in enumerate(items):
            if isinstance(item, dict):
                yield from _choices_of(f"items[{index}]", item)
            else:
                yield from _choices_in(f"items[{index}]", "prompt", item)
    matrix = document.get("matrix")
    if isinstance(matrix, dict):
        for name, values in matrix.items():
            if isinstance(values, list):
                yield from _choices_on_axis(str(name), values)


def _choices_on_axis(name: str, values: list[Any]) -> Iterator[Choice]:
    for index, value in enumerate(values):
        yield from _choices_in(f"matrix.{name}[{index}]", PLURALS.get(name, name), value)


def _choices_of(path: str, fields: Mapping[str, Any]) -> Iterator[Choice]:
    for name, value in fields.items():
        yield from _choices_in(f"{path}.{name}", name, value)


def _choices_in(path: str, name: str, value: Any) -> Iterator[Choice]:
    """Yield the choices in one field."""
    if name == _OVERRIDES and isinstance(value, dict):
        for setting, setting_value in value.items():
            yield from _choice(f"{path}.{setting}", f"{_OVERRIDES}.{setting}", setting_value)
    elif name == offers.STYLES_FIELD and isinstance(value, list):
        for index, style in enumerate(value):
            yield from _choice(f"{path}[{index}]", name, style)
    elif name in _PROMPTS and isinstance(value, str):
        for lora in offers.loras_in(value):
            yield Choice(path, offers.LORA_FIELD, lora)
    else:
        yield from _choice(path, name, value)


def _choice(path: str, field: str, value: Any) -> Iterator[Choice]:
    """Yield the choice that a value is, if it is one."""
    if field not in offers.FIELDS:
        return
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        # It is rendered as a text: a table's cell for a style called 2024.
        value = str(value)
    if isinstance(value, str):
        yield Choice(path, field, value)
