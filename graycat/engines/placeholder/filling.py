"""Fields of a request out of an infotext."""

from __future__ import annotations

from typing import Any

from graycat.images.infotext import parse

#: Fields of a request that a text can fill: key in the text, field, type.
REQUEST_FIELDS: tuple[tuple[str, str, type], ...] = (
    ("Prompt", "prompt", str),
    ("Negative prompt", "negative_prompt", str),
    ("Steps", "steps", int),
    ("Sampler", "sampler_name", str),
    ("Schedule type", "scheduler", str),
    ("CFG scale", "cfg_scale", float),
    ("Seed", "seed", int),
    ("Size-1", "width", int),
    ("Size-2", "height", int),
    ("Variation seed", "subseed", int),
    ("Variation seed strength", "subseed_strength", float),
    ("Denoising strength", "denoising_strength", float),
)


def fill(fields: dict[str, Any], given: set[str]) -> None:
    """Fill the fields of a request from its ``infotext``, save those that were ``given`` beside it."""
    if not fields.get("infotext"):
        return
    parsed = parse(fields["infotext"])
    for key, field, kind in REQUEST_FIELDS:
        if key in parsed and field not in given:
            try:
                fields[field] = kind(parsed[key])
            except ValueError:
                continue  # not a number after all: as if it were not there
