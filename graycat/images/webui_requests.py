"""What graycat itself checks in the body of a Stable Diffusion call, and the few fields that it rewrites.

The engine has no limits of its own: it would try any size, and take its process down. Numbers are read as the engine
reads them (``"512"`` is 512). Everything else reaches the engine untouched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from typing import Any, TypeVar

from PIL import Image

from graycat.errors import LimitExceeded, RequestError
from graycat.images import infotext
from graycat.images.decoding import CheckedImage, ImageLimits, decode
from graycat.images.errors import InvalidImage, ScriptNotAllowed, SettingNotAllowed, TooMuchWork
from graycat.settings import Settings

PROMPTS = ("prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt")
#: What an engine can write its images as; with any other word each generation fails at its end.
SAMPLES_FORMATS = ("png", "jpg", "jpeg", "webp")
#: Below this many pixels nothing is left of a side: the engine cuts it to a multiple of eight.
MIN_SIDE = 8
#: An enlargement beyond this is a slip of the hand; the limits on pixels do the rest.
MAX_SCALE = 16.0

#: Fields that take effect past the limits and lists here, or that the engine takes for a file of its own.
CLOSED = {
    "infotext": "it would set fields and settings past this server's checks; send the fields themselves",
    "firstpass_image": "the engine has no way to take it from a request",
    "latent_mask": "the engine has no way to take it from a request",
}
_OFF = {"", "0", "0.0", "false", "off", "f", "n", "no", "none"}
_ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]*://", re.IGNORECASE)

Body = dict[str, Any]
N = TypeVar("N", int, float)


def generation(body: Body, settings: Settings, most_pixels: int | None = None) -> Body:
    """Return the body of a txt2img or img2img as the engine may have it. Raises RequestError.

    Raises LimitExceeded where the caller's API token may not ask for more than ``most_pixels``, and the body does.

    Decodes its images: up to a second each.
    """
    body = check_override_settings(body, names(settings.sd_override_settings))
    body = check_scripts(body, names(settings.sd_scripts))
    return check_request(body, ImageLimits.from_settings(settings), most_pixels)


def names(text: str) -> frozenset[str]:
    """Return the names in a setting that parts them by commas."""
    return frozenset(filter(None, map(str.strip, text.split(","))))


def check_request(body: Body, limits: ImageLimits, most_pixels: int | None = None) -> Body:
    """Return a txt2img's or img2img's body, its images checked. Raises as ``generation`` does, cheap reasons first."""
    for field in PROMPTS:
        if isinstance(body.get(field), (list, dict)):
            raise RequestError(f"{field!r} must be a string")
    for field, reason in CLOSED.items():
        if body.get(field):
            raise RequestError(f"{field!r} is closed here: {reason}")
    _check_lora(body.get("lora"))
    _check_pixels(pixels(body, limits), limits, most_pixels)
    # The engine would write each image to its own disk, and put a grid that nobody asked for before them.
    rewritten = body | {"save_images": False}
    # The worker names its tasks, so that it interrupts no other.
    rewritten.pop("force_task_id", None)
    return rewritten | _checked_images(body, limits)


def check_extras(body: Body, limits: ImageLimits, most_pixels: int | None = None) -> Body:
    """Return the body of an extra-*, png-info or interrogate call, its images and their enlargement checked.

    Raises RequestError, and LimitExceeded as ``generation`` does.
    """
    entries = _listed(body, "imageList", limits) if body.get("imageList") is not None else []
    if not all(isinstance(entry, dict) for entry in entries):
        raise RequestError("'imageList' must be a list of objects with 'data' and 'name'")
    if not entries and "image" not in body:
        raise RequestError("'image' is required, or 'imageList': base64 of a PNG, JPEG or WebP")
    several = [decode(entry.get("data"), limits) for entry in entries]
    rewritten = dict(body)
    if entries:
        rewritten["imageList"] = [e | {"data": i.base64} for e, i in zip(entries, several, strict=True)]
    if "image" in body:
        several.append(decode(body["image"], limits))
        rewritten["image"] = several[-1].base64
    _check_pixels(sum(_enlarged(body, image, limits) for image in several), limits, most_pixels)
    return rewritten


def png_info(body: Body, limits: ImageLimits) -> dict[str, Any]:
    """Return what an image says of how it was made, as the WebUI's ``/png-info``. Raises RequestError."""
    checked = decode(body.get("image"), limits)
    with Image.open(BytesIO(checked.data), formats=[checked.format.upper()]) as image:
        text, items = infotext.read(image)
    return {"info": text, "items": items, "parameters": infotext.parse(text)}


def check_override_settings(body: Body, allowed: frozenset[str]) -> Body:
    """Return a body that overrides none but the ``allowed`` settings, and none for good. Raises SettingNotAllowed."""
    overrides = body.get("override_settings")
    if overrides is not None and not isinstance(overrides, dict):
        raise RequestError("'override_settings' must be an object")
    for name, value in (overrides or {}).items():
        if name not in allowed:
            raise SettingNotAllowed(f"the setting {name[:100]!r} cannot be overridden; these can: {_listing(allowed)}")
        if isinstance(value, (list, dict)):
            raise SettingNotAllowed(f"the setting {name!r} must be a single value")
        if name == "samples_format" and str(value).lower() not in SAMPLES_FORMATS:
            raise SettingNotAllowed(f"'samples_format' must be one of {', '.join(SAMPLES_FORMATS)}")
    # Settings are the engine's, so everybody's: left overridden, the next caller would find them so.
    kept = "override_settings_restore_afterwards"
    return body | {kept: True} if kept in body else body


def check_scripts(body: Body, allowed: frozenset[str]) -> Body:
    """Return a body that names none but the ``allowed`` scripts (in any case). Raises ScriptNotAllowed."""
    selected, always = body.get("script_name"), body.get("alwayson_scripts", {})
    if not isinstance(always, dict):
        raise RequestError("'alwayson_scripts' must be an object")
    titles = {title.lower() for title in allowed}
    for title in [*always, *([selected] if selected else [])]:
        if not isinstance(title, str) or title.lower() not in titles:
            raise ScriptNotAllowed(f"the script {str(title)[:100]!r} is not open here; these are: {_listing(allowed)}")
    # An image among a script's arguments is fetched like any other.
    for text in _strings([always, body.get("script_args")]):
        if _ADDRESS.match(text):
            raise InvalidImage("a script's arguments may hold no addresses; send images as base64")
    return body


def _listing(allowed: frozenset[str]) -> str:
    return ", ".join(sorted(allowed)) or "none"


def _strings(value: Any) -> Iterator[str]:
    """Yield the strings within a JSON value, however deep."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, (list, dict)):
            waiting.extend(item.values() if isinstance(item, dict) else item)


def _check_lora(lora: Any) -> None:
    """Refuse LoRA files outside the engine's folder (sd-server's field; others name LoRAs in the prompt)."""
    for entry in lora if isinstance(lora, list) else []:
        path = str(entry.get("path", "")) if isinstance(entry, dict) else ""
        if path.startswith(("/", "\\", "~")) or ":" in path or ".." in path:
            raise RequestError("'lora' must name files by their place in the engine's folder")


def pixels(body: Body, limits: ImageLimits) -> int:
    """Return the pixels of all images that a generation asks for, each at its largest; absent fields are the WebUI's.

    Raises TooMuchWork where anything else of it is more than one request may ask for.
    """
    width, height = (_number(body, side, 512, MIN_SIDE, limits.max_side) for side in ("width", "height"))
    _number(body, "steps", 50, 1, limits.max_steps)
    images = _number(body, "batch_size", 1, 1, limits.max_images) * _number(body, "n_iter", 1, 1, limits.max_images)
    if images > limits.max_images:
        raise TooMuchWork(f"a request may ask for {limits.max_images} images; batch_size x n_iter is {images}")
    if _on(body.get("enable_hr")):
        # An old way to say the size of the first pass, which the enlargement then starts from.
        width = max(width, _number(body, "firstphase_width", 0, 0, limits.max_side))
        height = max(height, _number(body, "firstphase_height", 0, 0, limits.max_side))
        for field in ("hr_second_pass_steps", "hr_steps"):
            _number({field: body.get(field) or 0}, field, 0, 0, limits.max_steps)
        # A target of another shape is covered and then cut to size.
        targets = (_number(body, f"hr_resize_{axis}", 0, 0, limits.max_side) for axis in "xy")
        scale = max(target / side for target, side in zip(targets, (width, height), strict=True))
        scale = scale or _number(body, "hr_scale", 2.0, 0.1, MAX_SCALE)
        width, height = (max(side, int(side * scale)) for side in (width, height))
    _check_side(max(width, height), limits)
    return width * height * images


def _enlarged(body: Body, image: CheckedImage, limits: ImageLimits) -> int:
    """Return the pixels that an upscaling makes of an image."""
    if all(str(body.get(field, "None")) in ("None", "") for field in ("upscaler_1", "upscaler_2")):
        return image.width * image.height
    if _number(body, "resize_mode", 0, 0, 1):
        # A target of another shape is covered; whether it is cut to size afterwards does not matter here.
        across = _number(body, "upscaling_resize_w", 512, 1, limits.max_side) / image.width
        scale = max(across, _number(body, "upscaling_resize_h", 512, 1, limits.max_side) / image.height)
    else:
        scale = _number(body, "upscaling_resize", 2.0, 0.01, MAX_SCALE)
    width, height = (max(side, int(side * scale)) for side in (image.width, image.height))
    _check_side(max(width, height), limits)
    return width * height


def _check_side(length: int, limits: ImageLimits) -> None:
    if length > limits.max_side:
        raise TooMuchWork(f"an image may have {limits.max_side} pixels on a side, not {length}")


def _check_pixels(count: int, limits: ImageLimits, most_pixels: int | None) -> None:
    if count > limits.max_pixels:
        raise TooMuchWork(f"the images of a request may have {limits.max_pixels} pixels together, not {count}")
    if most_pixels is not None and count > most_pixels:
        raise LimitExceeded(f"this API token may ask for {most_pixels} pixels a request (max_pixels), not {count}")


def _number(body: Body, field: str, default: N, least: N, most: N) -> N:
    """Return a field as a number of the default's kind, read as the engine reads it."""
    value = body.get(field, default)
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise TypeError
        number = type(default)(value)
        if not number >= least:  # as NaN is
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise RequestError(f"{field!r} must be a number, {least} to {most}") from None
    if number > most:
        raise TooMuchWork(f"{field!r} may be {most} at most")
    return number


def _on(value: Any) -> bool:
    """Tell whether the engine may take a value for true; whatever it may refuse counts."""
    return str(value).lower() not in _OFF


def _checked_images(body: Body, limits: ImageLimits) -> Body:
    """Return a generation's image fields: each image as the bare base64 that was checked.

    Engines differ in what they make of data addresses and blanks, and what one sees must be what was checked.
    """
    checked: Body = {}
    lists = [field for field in ("init_images", "extra_images") if body.get(field) is not None]
    texts = {field: _listed(body, field, limits) for field in lists}
    for field, items in texts.items():
        checked[field] = [decode(item, limits).base64 for item in items]
    if body.get("mask"):
        checked["mask"] = decode(body["mask"], limits).base64
    return checked


def _listed(body: Body, field: str, limits: ImageLimits) -> list[Any]:
    """Return a field that holds a list of images."""
    items = body[field]
    if not isinstance(items, list) or not items:
        raise RequestError(f"{field!r} must be a list of images")
    if len(items) > limits.max_images:
        raise TooMuchWork(f"a request may send {limits.max_images} images, not {len(items)} in {field!r}")
    return items
