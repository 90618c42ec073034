"""OpenAI's image requests as the WebUI's."""

from __future__ import annotations

import io
import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageOps

from graycat.errors import RequestError
from graycat.images.decoding import ImageLimits, decode

#: The size of ``auto``, and of a request that names none.
SIZE = (1024, 1024)
#: How much an edit may change: enough to follow the prompt, little enough to know the image again.
STRENGTH = 0.75
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")


def generation(body: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Return the txt2img body of a ``/v1/images/generations`` request. Raises RequestError."""
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise RequestError("'prompt' is required: a string")
    # A form has words for it.
    if str(body.get("stream") or "false").lower() != "false":
        raise RequestError("'stream' is not offered for images; watch the task's events instead")
    width, height = size(body.get("size"), SIZE)
    return {"prompt": prompt, "batch_size": count(body.get("n")), "width": width, "height": height, "steps": steps}


def edit(fields: Mapping[str, Any], image: str, mask: str | None, limits: ImageLimits, steps: int) -> dict[str, Any]:
    """Return the img2img body of a ``/v1/images/edits`` request; images as base64. Raises RequestError.

    A mask is painted where it is transparent; without one, the image where it is.
    """
    checked = decode(image, limits)
    painted = _painted(decode(mask, limits).data if mask is not None else checked.data)
    width, height = size(fields.get("size"), (checked.width, checked.height))
    body = generation({**fields, "size": f"{width}x{height}"}, steps)
    body |= {"init_images": [checked.base64], "denoising_strength": STRENGTH}
    if painted is not None:
        body |= {"mask": painted, "denoising_strength": 1.0, "inpaint_full_res": False, "mask_blur": 4}
    elif mask is not None:
        raise RequestError("'mask' must have transparent parts: they are what is painted")
    return body


def size(text: object, default: tuple[int, int]) -> tuple[int, int]:
    """Return width and height in pixels. Raises RequestError."""
    if text in (None, "", "auto"):
        return default
    if not isinstance(text, str) or not (found := _SIZE.fullmatch(text)):
        raise RequestError("'size' must be WIDTHxHEIGHT in pixels, or 'auto'")
    return int(found[1]), int(found[2])


def count(value: object) -> int:
    """Return how many images are wanted. Raises RequestError."""
    try:
        return int(str(value if value is not None else 1))
    except ValueError:
        raise RequestError("'n' must be a number") from None


def _painted(data: bytes) -> str | None:
    """Return the WebUI's mask (white is painted) of an image's transparent parts as base64; None where it has none."""
    with Image.open(io.BytesIO(data), formats=("PNG", "WEBP", "JPEG")) as opened:
        if "A" not in opened.getbands() and "transparency" not in opened.info:
            return None
        alpha = opened.convert("RGBA").getchannel("A")
    if alpha.getextrema()[0] == 255:
        return None
    output = io.BytesIO()
    ImageOps.invert(alpha).save(output, "PNG")
    return b64encode(output.getvalue()).decode()
