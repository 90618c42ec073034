"""Fields of a request that are read from an infotext."""

from __future__ import annotations

from typing import Any

from graycat.images.infotext import parse

#: The fields that an infotext can set: key in the text, name of the field, type.
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


def apply_infotext(fields: dict[str, Any], sent: set[str]) -> None:
    """Set fields of a request from its ``infotext``, except the fields that the client ``sent`` beside it."""
    if not fields.get("infotext"):
        return
    parsed = parse(fields["infotext"])
    for key, field, field_type in REQUEST_FIELDS:
        if key in parsed and field not in sent:
            try:
                fields[field] = field_type(parsed[key])
            except ValueError:
                continue  # the value is not a number: ignore it
