"""Translates OpenAI's image requests into bodies of the WebUI's txt2img and img2img."""

from __future__ import annotations

import io
import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageOps

from graycat.errors import RequestError
from graycat.images.decoding import decode
from graycat.settings import Settings

#: Width and height of ``auto``, and of a request that names no size.
DEFAULT_SIZE = (1024, 1024)
#: How much an edit may change: enough to follow the prompt, little enough to keep the image recognizable.
EDIT_STRENGTH = 0.75
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")


def to_txt2img(body: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Return the txt2img body of a ``/v1/images/generations`` request. Raises RequestError."""
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise RequestError("'prompt' is required: a string")
    stream = body.get("stream")
    # A form sends booleans as text.
    if isinstance(stream, str):
        stream = stream.lower() not in ("", "false")
    if stream is not None and stream is not False:
        raise RequestError("'stream' is not supported for images; follow the task's events instead")

    width, height = parse_size(body.get("size"), DEFAULT_SIZE)
    return {
        "prompt": prompt,
        "batch_size": parse_count(body.get("n")),
        "width": width,
        "height": height,
        "steps": steps,
    }


def to_img2img(
    fields: Mapping[str, Any], image: str, mask: str | None, settings: Settings, steps: int
) -> dict[str, Any]:
    """Return the img2img body of a ``/v1/images/edits`` request; images as base64. Raises RequestError.

    The transparent parts of the mask are painted. Without a mask, the transparent parts of the image are.
    """
    checked = decode(image, settings)
    mask_source = checked
    if mask is not None:
        mask_source = decode(mask, settings)
    webui_mask = _mask_from_transparency(mask_source.data)

    width, height = parse_size(fields.get("size"), (checked.width, checked.height))
    body = to_txt2img({**fields, "size": f"{width}x{height}"}, steps)
    body |= {"init_images": [checked.base64], "denoising_strength": EDIT_STRENGTH}
    if webui_mask is not None:
        body |= {"mask": webui_mask, "denoising_strength": 1.0, "inpaint_full_res": False, "mask_blur": 4}
    elif mask is not None:
        raise RequestError("'mask' must have transparent parts: those parts are painted")
    return body


def parse_size(text: object, default: tuple[int, int]) -> tuple[int, int]:
    """Return width and height in pixels. Raises RequestError."""
    if text in (None, "", "auto"):
        return default
    size = None
    if isinstance(text, str):
        size = _SIZE.fullmatch(text)
    if size is None:
        raise RequestError("'size' must be WIDTHxHEIGHT in pixels, or 'auto'")
    return int(size[1]), int(size[2])


def parse_count(value: object) -> int:
    """Return how many images ``n`` asks for, by default 1. Raises RequestError."""
    if value is None:
        return 1
    try:
        return int(str(value))
    except ValueError:
        raise RequestError("'n' must be a number") from None


def _mask_from_transparency(data: bytes) -> str | None:
    """Return the WebUI's mask (white is painted) of an image's transparent parts, as base64; None if it has none."""
    with Image.open(io.BytesIO(data), formats=("PNG", "WEBP", "JPEG")) as image:
        if "A" not in image.getbands() and "transparency" not in image.info:
            return None
        alpha = image.convert("RGBA").getchannel("A")
    if alpha.getextrema()[0] == 255:
        return None

    output = io.BytesIO()
    ImageOps.invert(alpha).save(output, "PNG")
    return b64encode(output.getvalue()).decode()
