"""Translates OpenAI's image requests into bodies of the WebUI's txt2img and img2img.

The fields are those of OpenAI's API reference (October 2026), with ``seed``, ``steps`` and ``negative_prompt`` beside
them. Each is done, or refused with its name: none is ignored, but for the two that only tell who asks.
"""

from __future__ import annotations

import io
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageOps

from graycat.bounds.names import find_nearest
from graycat.errors import RequestError, UnsupportedParameter
from graycat.images.decoding import CheckedImage, decode_field
from graycat.images.errors import TooMuchWork
from graycat.images.output import OutputFormat, available_formats
from graycat.images.webui_requests import MIN_SIDE
from graycat.settings import Settings
from graycat.settings.aliases import parse_aliases

#: Width and height of ``auto``, and of a request that names no size.
DEFAULT_SIZE = (1024, 1024)
#: How much an edit may change: enough to follow the prompt, little enough to keep the image recognizable.
EDIT_STRENGTH = 0.75
#: Steps of each quality; of ``auto``, and of a request that names none, as many as of medium.
STEPS = {"low": 10, "medium": 20, "standard": 20, "auto": 20, "high": 40, "hd": 40}
#: OpenAI's own models, which clients name unless they are told another: they stand for the engine's current one.
_OPENAI_MODEL = re.compile(r"(?:dall-e-|gpt-image-|chatgpt-image-)[\w.-]{1,60}")
#: Values that ask for nothing but what happens anyway.
_WITHOUT_EFFECT = {
    "background": ("auto", "opaque"),
    "moderation": ("auto", "low"),
    "input_fidelity": ("low",),
}
#: Who asks: for the records of OpenAI, not for an image.
_NOTES = ("user", "safety_identifier")
FIELDS = frozenset(
    {
        *("prompt", "n", "size", "model", "quality", "response_format", "output_format", "output_compression"),
        *("stream", "partial_images", "seed", "steps", "negative_prompt"),
        *(*_WITHOUT_EFFECT, *_NOTES),
    }
)
#: Values that mean the same as an absent field; a form sends texts.
ABSENT = (None, "")
MAX_PARTIAL_IMAGES = 3
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})", re.ASCII)
_WHOLE = re.compile(r"-?\d{1,18}", re.ASCII)
_ORIENTATION = 0x0112


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """What a request asks for. ``body``: that of a txt2img. ``output`` is None if any format will do."""

    body: dict[str, Any]
    response_format: str
    output: OutputFormat | None
    stream: bool
    partial_images: int
    quality: str


def parse(fields: Mapping[str, Any], settings: Settings) -> ImageRequest:
    """Return what the fields of a request ask for, read from JSON or from a form. Raises RequestError."""
    given = {name: value for name, value in fields.items() if value not in ABSENT}
    prompt = given.get("prompt")
    if not isinstance(prompt, str):
        raise RequestError("'prompt' is required: a string").at("prompt")
    for name in given:
        if name not in FIELDS:
            nearest = find_nearest(name, FIELDS)
            meant = f"did you mean {nearest!r}? " if nearest else ""
            raise UnsupportedParameter(
                name[:100], f"is not a field of this route; {meant}fields: {', '.join(sorted(FIELDS))}"
            )
    for name, values in _WITHOUT_EFFECT.items():
        _choose(given, name, values[0], values)

    stream = _read_flag(given, "stream")
    partial_images = _read_whole(given, "partial_images", 0, 0, MAX_PARTIAL_IMAGES)
    if partial_images and not stream:
        raise UnsupportedParameter("partial_images", "needs 'stream': true")
    response_format = _choose(given, "response_format", "b64_json", ("b64_json", "url"))
    if stream and response_format == "url":
        raise UnsupportedParameter("response_format", "must be 'b64_json' in a stream: its events hold the images")
    quality = _choose(given, "quality", "auto", tuple(STEPS))
    return ImageRequest(
        body=_to_txt2img(given, prompt, min(STEPS[quality], settings.max_steps), settings),
        response_format=response_format,
        output=_parse_output(given),
        stream=stream,
        partial_images=partial_images,
        quality=quality,
    )


def _to_txt2img(given: Mapping[str, Any], prompt: str, steps: int, settings: Settings) -> dict[str, Any]:
    width, height = parse_size(given.get("size"), DEFAULT_SIZE)
    if max(width, height) > settings.max_side:
        raise TooMuchWork(f"'size' may have {settings.max_side} pixels on a side").at("size")
    count = _read_whole(given, "n", 1, 1)
    if count > settings.max_images:
        raise TooMuchWork(f"'n' may be {settings.max_images} at most").at("n")
    body: dict[str, Any] = {
        "prompt": prompt,
        "batch_size": count,
        "width": width,
        "height": height,
        "steps": _read_whole(given, "steps", steps, 1),
    }
    if "seed" in given:
        body["seed"] = _read_whole(given, "seed", -1, -1, 2**32 - 1)
    if "negative_prompt" in given:
        if not isinstance(given["negative_prompt"], str):
            raise RequestError("'negative_prompt' must be a string").at("negative_prompt")
        body["negative_prompt"] = given["negative_prompt"]
    model = given.get("model", "")
    if not isinstance(model, str):
        raise RequestError("'model' must be a string").at("model")
    model = parse_aliases(settings.model_aliases).get(model, model)
    if model and not _OPENAI_MODEL.fullmatch(model):
        body["override_settings"] = {"sd_model_checkpoint": model}
    return body


def _parse_output(given: Mapping[str, Any]) -> OutputFormat | None:
    """Return the wanted format; None if the engine's own will do."""
    compression = None
    if "output_compression" in given:
        compression = _read_whole(given, "output_compression", 100, 0, 100)
    if "output_format" not in given:
        if compression is not None:
            raise UnsupportedParameter("output_compression", "needs 'output_format': jpeg, webp or avif")
        return None
    name = _choose(given, "output_format", "png", available_formats())
    if name == "png" and compression not in (None, 100):
        raise UnsupportedParameter("output_compression", "is not for png: choose jpeg, webp or avif")
    return OutputFormat(name, None if name == "png" else compression)


def to_img2img(fields: Mapping[str, Any], image: str, mask: str | None, settings: Settings) -> ImageRequest:
    """Return what a ``/v1/images/edits`` request asks for; images as base64. Raises RequestError.

    The transparent parts of the mask are painted. Without a mask, the transparent parts of the image are. Photos are
    turned as their cameras say: engines differ in whether they do it.
    """
    checked = turn_upright(decode_field("image", image, settings))
    mask_source = checked
    if mask is not None:
        mask_source = turn_upright(decode_field("mask", mask, settings))
    webui_mask = _mask_from_transparency(mask_source.data)

    width, height = parse_size(fields.get("size"), (checked.width, checked.height))
    request = parse({**fields, "size": f"{width}x{height}"}, settings)
    body = request.body
    body |= {"init_images": [checked.base64], "denoising_strength": EDIT_STRENGTH}
    if webui_mask is not None:
        body |= {"mask": webui_mask, "denoising_strength": 1.0, "inpaint_full_res": False, "mask_blur": 4}
    elif mask is not None:
        raise RequestError("'mask' must have transparent parts: those parts are painted").at("mask")
    return request


#: What a route of OpenAI's calls the fields of a generation.
_OWN_NAMES = {
    "batch_size": "n",
    "n_iter": "n",
    "width": "size",
    "height": "size",
    "init_images[0]": "image",
    "override_settings": "model",
    "override_settings.sd_model_checkpoint": "model",
}


def own_param(error: RequestError) -> str:
    """Return the field of OpenAI's that an error about a generation is about; '' if it is about none."""
    if isinstance(error, TooMuchWork) and not error.param:
        # All images have too many pixels together.
        return "size"
    return _OWN_NAMES.get(error.param, error.param)


def turn_upright(checked: CheckedImage) -> CheckedImage:
    """Return an image without an Exif orientation: turned as that says."""
    with Image.open(io.BytesIO(checked.data), formats=(checked.format.upper(),)) as image:
        if image.getexif().get(_ORIENTATION, 1) == 1:
            return checked
        turned = ImageOps.exif_transpose(image)
        file = io.BytesIO()
        turned.save(file, "PNG", compress_level=1)
    return CheckedImage(file.getvalue(), "png", turned.width, turned.height)


def parse_size(text: object, default: tuple[int, int]) -> tuple[int, int]:
    """Return width and height in pixels. Raises RequestError."""
    if text in (None, "", "auto"):
        return default
    size = None
    if isinstance(text, str):
        size = _SIZE.fullmatch(text)
    if size is None:
        raise RequestError("'size' must be WIDTHxHEIGHT in pixels, or 'auto'").at("size")
    width, height = int(size[1]), int(size[2])
    if min(width, height) < MIN_SIDE:
        raise RequestError(f"'size' must have {MIN_SIDE} pixels on each side, or more").at("size")
    return width, height


def _read_whole(given: Mapping[str, Any], name: str, default: int, minimum: int, maximum: int | None = None) -> int:
    """Return a field as a whole number; limits of the server are checked later. Raises RequestError."""
    value = given.get(name, default)
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    valid = isinstance(value, int) and not isinstance(value, bool) and value >= minimum
    if not valid or (maximum is not None and value > maximum):
        upper = f" to {maximum}" if maximum is not None else " on"
        raise RequestError(f"{name!r} must be a whole number, from {minimum}{upper}").at(name)
    return int(value)


def _read_flag(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name, False)
    # A form sends booleans as text.
    if isinstance(value, str):
        value = {"true": True, "1": True, "false": False, "0": False}.get(value.lower())
    if not isinstance(value, bool):
        raise RequestError(f"{name!r} must be true or false").at(name)
    return value


def _choose(given: Mapping[str, Any], name: str, default: str, values: tuple[str, ...]) -> str:
    """Return a field that must be one of some values. Raises UnsupportedParameter."""
    value = given.get(name, default)
    if value not in values:
        raise UnsupportedParameter(name, f"must be one of {', '.join(values)}")
    return str(value)


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
