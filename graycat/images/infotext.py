"""The text that is kept in an image: what it was made with, written and read."""

from __future__ import annotations

import json
import re
from typing import Any

from PIL import Image

NEGATIVE = "Negative prompt:"

#: Where a JPEG or a WebP keeps the text: the user comment of its Exif data.
EXIF_IFD = 0x8769
USER_COMMENT = 0x9286
_UNICODE = b"UNICODE\0"

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


def read(image: Image.Image) -> tuple[str, dict[str, Any]]:
    """Return the generation parameters in a file, "" where it has none, and what other text it has."""
    # The rest of what Pillow tells are numbers and bytes of the format itself.
    items = {str(key): value for key, value in image.info.items() if isinstance(value, str) and key != "parameters"}
    comment = image.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT)
    infotext = image.info.get("parameters")
    if isinstance(comment, bytes):
        infotext = _comment(comment) or infotext
    return infotext if isinstance(infotext, str) else "", items


def _comment(comment: bytes) -> str:
    if comment.startswith(_UNICODE):
        return comment[len(_UNICODE) :].decode("utf-16-be", "replace")
    return comment.removeprefix(b"ASCII\0\0\0").decode("utf-8", "replace").strip("\0")


def comment(infotext: str) -> bytes:
    """Return the user comment that holds a text."""
    return _UNICODE + infotext.encode("utf-16-be")
