"""The infotext: the WebUI's text in an image file that says how the image was made; builds, parses and reads it."""

from __future__ import annotations

import json
import re
from typing import Any

from PIL import Image, PngImagePlugin

NEGATIVE = "Negative prompt:"

#: A JPEG or a WebP holds the infotext in the user comment of its Exif data.
EXIF_IFD = 0x8769
USER_COMMENT = 0x9286
_UNICODE = b"UNICODE\0"

#: A key and its value. The value is in quotes if it holds a comma or a colon.
_PAIR = re.compile(r'(?P<key>\w[\w /-]{1,80}):[ \t]*(?P<value>"(?:[^"\\]|\\.)*"|[^,]*)(?:,|$)')
_SIZE = re.compile(r"(\d+)x(\d+)")
#: The key of the JSON with which sd-server ends its infotext; it is no list of pairs, and may hold a prompt.
SDCPP = "SDCPP"
_SDCPP_START = f", {SDCPP}: {{"
#: A last line with fewer pairs than this belongs to the prompt.
_MIN_PAIRS = 3

#: Values of the keys that an infotext leaves out.
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


def build(prompt: str, negative_prompt: str, pairs: dict[str, Any]) -> str:
    """Return the infotext: the prompt, the negative prompt if any, then one line of the pairs that are not None."""
    lines = [prompt]
    if negative_prompt:
        lines.append(f"{NEGATIVE} {negative_prompt}")
    lines.append(", ".join(f"{key}: {_quote(value)}" for key, value in pairs.items() if value is not None))
    return "\n".join(lines).strip()


def _quote(value: Any) -> str:
    text = str(value)
    if any(mark in text for mark in ",:\n"):
        return json.dumps(text, ensure_ascii=False)
    return text


def parse(infotext: str) -> dict[str, Any]:
    """Return an infotext's values by their keys, as printed, with defaults for the keys that it leaves out.

    "Size: 512x768" becomes "Size-1" and "Size-2". Values are strings, as printed.
    """
    lines = [line.strip() for line in infotext.strip().split("\n")]
    last_line, start, json_text = lines[-1].partition(_SDCPP_START)
    pairs = list(_PAIR.finditer(last_line))
    if len(pairs) < _MIN_PAIRS:
        pairs = []
    else:
        lines.pop()

    prompt, negative_prompt = _split_prompts(lines)
    parsed: dict[str, Any] = {"Prompt": prompt, "Negative prompt": negative_prompt}
    for pair in pairs:
        key, value = pair["key"], _unquote(pair["value"])
        size = _SIZE.fullmatch(value)
        if size:
            parsed[f"{key}-1"], parsed[f"{key}-2"] = size.groups()
        else:
            parsed[key] = value
    if start and pairs:
        parsed[SDCPP] = "{" + json_text
    for key, value in DEFAULTS.items():
        parsed.setdefault(key, value)
    return parsed


def _split_prompts(lines: list[str]) -> tuple[str, str]:
    """Return the prompt and the negative prompt."""
    for index, line in enumerate(lines):
        if line.startswith(NEGATIVE):
            negative_lines = [line.removeprefix(NEGATIVE).strip(), *lines[index + 1 :]]
            return "\n".join(lines[:index]), "\n".join(negative_lines)
    return "\n".join(lines), ""


def _unquote(value: str) -> str:
    if len(value) < 2 or not (value.startswith('"') and value.endswith('"')):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value


def read(image: Image.Image) -> tuple[str, dict[str, Any]]:
    """Return the infotext in an image file ("" if it has none), and the other texts in it by their keys."""
    items = {}
    for key, value in image.info.items():
        # Pillow's other values are numbers and bytes of the file format itself.
        if isinstance(value, str) and key != "parameters":
            items[str(key)] = value

    infotext = image.info.get("parameters")
    comment = image.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT)
    if isinstance(comment, bytes):
        infotext = _decode_user_comment(comment) or infotext
    if not isinstance(infotext, str):
        infotext = ""
    return infotext, items


def _decode_user_comment(comment: bytes) -> str:
    if comment.startswith(_UNICODE):
        return comment[len(_UNICODE) :].decode("utf-16-be", "replace")
    return comment.removeprefix(b"ASCII\0\0\0").decode("utf-8", "replace").strip("\0")


def encode_user_comment(infotext: str) -> bytes:
    """Return the Exif user comment that holds an infotext."""
    return _UNICODE + infotext.encode("utf-16-be")


def to_png_chunks(infotext: str) -> PngImagePlugin.PngInfo:
    """Return the chunks of a PNG that hold an infotext; none for ""."""
    chunks = PngImagePlugin.PngInfo()
    if infotext:
        chunks.add_text("parameters", infotext)
    return chunks
