"""The text that is kept in an image: what it was made with, written and read."""

from __future__ import annotations

import json
import re
from typing import Any

NEGATIVE = "Negative prompt:"

#: A key and its value, which is in quotes if it holds a comma or a colon.
_PAIR = re.compile(r'(?P<key>\w[\w /-]{1,80}):[ \t]*(?P<value>"(?:[^"\\]|\\.)*"|[^,]*)(?:,|$)')
_SIZE = re.compile(r"(\d+)x(\d+)")
#: Pairs that a line must have to be taken for the last one; fewer are part of a prompt.
_LEAST_PAIRS = 3

#: What a text that does not say otherwise was made with.
DEFAULTS: dict[str, Any] = {
    "Clip skip": "1",
    "Hires resize-1": 0,
    "Hires resize-2": 0,
    "Hires sampler": "Use same sampler",
    "Hires checkpoint": "Use same checkpoint",
    "Hires prompt": "",
    "Hires negative prompt": "",
    "Mask mode": "Inpaint masked",
    "Masked content": "original",
    "Inpaint area": "Whole picture",
    "Masked area padding": 32,
    "RNG": "GPU",
    "Schedule type": "Automatic",
    "Schedule max sigma": 0,
    "Schedule min sigma": 0,
    "Schedule rho": 0,
    "VAE Encoder": "Full",
    "VAE Decoder": "Full",
    "FP8 weight": "Disable",
}

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


def write(prompt: str, negative_prompt: str, pairs: dict[str, Any]) -> str:
    """Return the text: the prompt, the negative one if any, then the pairs that are not None on one line."""
    line = ", ".join(f"{key}: {_quoted(value)}" for key, value in pairs.items() if value is not None)
    negative = f"\n{NEGATIVE} {negative_prompt}" if negative_prompt else ""
    return f"{prompt}{negative}\n{line}".strip()


def _quoted(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ",:\n") else text


def parse(infotext: str) -> dict[str, Any]:
    """Return what a text says, keys as printed, and the defaults for what it leaves out.

    "Size: 512x768" becomes "Size-1" and "Size-2". Values are strings, as printed.
    """
    *lines, last = infotext.strip().split("\n")
    pairs = list(_PAIR.finditer(last))
    if len(pairs) < _LEAST_PAIRS:
        lines, pairs = [*lines, last], []
    prompt, negative = _split([line.strip() for line in lines])
    parsed: dict[str, Any] = {"Prompt": prompt, "Negative prompt": negative}
    for pair in pairs:
        key, value = pair["key"], _unquoted(pair["value"])
        if size := _SIZE.fullmatch(value):
            parsed |= {f"{key}-1": size[1], f"{key}-2": size[2]}
        else:
            parsed[key] = value
    return parsed | {key: value for key, value in DEFAULTS.items() if key not in parsed}


def _split(lines: list[str]) -> tuple[str, str]:
    for number, line in enumerate(lines):
        if line.startswith(NEGATIVE):
            return "\n".join(lines[:number]), "\n".join([line.removeprefix(NEGATIVE).strip(), *lines[number + 1 :]])
    return "\n".join(lines), ""


def _unquoted(value: str) -> str:
    if len(value) < 2 or not (value.startswith('"') and value.endswith('"')):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value


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
