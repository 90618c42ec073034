"""Checks the bodies of Stable Diffusion calls, and rewrites the few fields that graycat must set itself.

The engine has no limits of its own: a size that is too large would crash its process. Numbers are read as A1111 reads
them, and sent as numbers (``"512"`` is 512). Fields that graycat does not know reach the engine unchanged.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, TypeVar

from PIL import Image

from graycat.bounds.names import find_nearest
from graycat.errors import LimitExceeded, RequestError
from graycat.images import infotext
from graycat.images.decoding import CheckedImage, decode_field
from graycat.images.errors import SettingNotAllowed, TooMuchWork
from graycat.images.masks import fit_mask
from graycat.images.output import FIELD as OUTPUT_FIELD
from graycat.images.output import OutputFormat
from graycat.images.places import holds_place
from graycat.images.prompt_controls import check_controls, count_joined_prompts
from graycat.images.scripts import check_scripts, join_names
from graycat.images.webui_fields import drop_nulls, normalize
from graycat.settings import Settings

PROMPTS = ("prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt")
#: Formats in which an engine can write its images. With any other name each generation fails at its end.
SAMPLES_FORMATS = ("png", "jpg", "jpeg", "webp")
#: Settings that are lists of names: Forge's VAE and text encoders, without which it renders nothing with Flux.
NAME_LISTS = frozenset({"forge_additional_modules"})
#: The engine rounds each side down to a multiple of eight, so a shorter side would become 0.
MIN_SIDE = 8
#: The WebUI's name and sd-server's.
SECOND_PASS_STEPS = ("hr_second_pass_steps", "hr_steps")
UPSCALERS = ("upscaler_1", "upscaler_2")
#: How much a second pass changes if a request does not say it: as on the WebUI's own page.
SECOND_PASS_STRENGTH = 0.7
#: A larger factor is surely a mistake. The limits on pixels apply as well.
MAX_SCALE = 16.0

#: Fields that are refused, with the reason: they would bypass graycat's checks, or they make the engine open a file.
REFUSED_FIELDS = {
    "infotext": "it would set fields and settings past this server's checks; send the fields themselves",
    "firstpass_image": "the engine cannot take it from a request",
    "latent_mask": "the engine cannot take it from a request",
    # xinference's: JSON in a text.
    "kwargs": "it would set any parameter past this server's checks; send the fields themselves",
    # SD.Next's.
    "extra": "it would set any parameter past this server's checks; send the fields themselves",
}
#: Fields that clients send for a proxy of their own (SillyTavern: the engine's address and its password). They are
#: dropped: the worker knows its engine, and a password is no engine's business.
DROPPED_FIELDS = ("url", "auth")
#: Texts that every engine reads as false.
_FALSE_WORDS = {"", "0", "0.0", "false", "off", "f", "n", "no", "none"}

#: Fields in which a text may look like a path: prompts, and those that have checks of their own.
CHECKED_FIELDS = frozenset(
    {
        *PROMPTS,
        *("init_images", "extra_images", "mask", "image", "imageList"),
        *("alwayson_scripts", "script_args", "override_settings", "lora"),
        # A checkpoint's name goes nowhere but into the choice of a worker; "model" is OpenAI's.
        "model",
    }
)

Body = dict[str, Any]
N = TypeVar("N", int, float)


def check_generation(body: Body, settings: Settings, token_max_pixels: int | None = None) -> Body:
    """Return the body of a txt2img or img2img as it may be sent to the engine. Raises RequestError.

    ``token_max_pixels``: the pixels that the caller's API token may ask for; a body that asks for more raises
    LimitExceeded. Decodes the images in the body, which takes up to a second for each.
    """
    body = check_override_settings(body, split_names(settings.sd_override_settings))
    body = check_scripts(body, split_names(settings.sd_scripts))
    return check_fields(body, settings, token_max_pixels)


def split_names(text: str) -> frozenset[str]:
    """Return the names in a comma-separated setting."""
    return frozenset(filter(None, map(str.strip, text.split(","))))


def check_fields(body: Body, settings: Settings, token_max_pixels: int | None = None) -> Body:
    """Return the body of a txt2img or img2img with its size and its images checked.

    Raises as ``check_generation`` does. The cheap checks come first.
    """
    body = {field: value for field, value in body.items() if field not in DROPPED_FIELDS}
    body = drop_nulls(body)
    for field in PROMPTS:
        if isinstance(body.get(field), (list, dict)):
            raise RequestError(f"{field!r} must be a string").at(field)
    for field, reason in REFUSED_FIELDS.items():
        if body.get(field):
            raise RequestError(f"{field!r} is not accepted: {reason}").at(field)
    check_controls(body)
    check_places(body)
    pixels = check_amount_of_work(body, settings)
    joined = count_joined_prompts(body)
    if joined == 1:
        _check_pixels(pixels, settings, token_max_pixels)
    else:
        # As if they were so many images: that is what they cost.
        reason = f", because AND joins {joined} prompts"
        _check_pixels(pixels * joined, settings, token_max_pixels, reason)
    body = normalize(body)
    if body.get("enable_hr") and not body.get("init_images"):
        # A1111 has no default of its own here, and fails.
        body.setdefault("denoising_strength", SECOND_PASS_STRENGTH)

    # By default the engine would write each image to its own disk, and put a grid of all images before them.
    rewritten = body | {"save_images": False}
    # The worker sets this id itself, so that it interrupts only its own renders.
    rewritten.pop("force_task_id", None)
    wish = OutputFormat.from_field(rewritten.pop(OUTPUT_FIELD, None))
    if wish is not None:
        rewritten[OUTPUT_FIELD] = wish.to_field()
    return rewritten | _check_images(body, settings)


def check_extras(body: Body, settings: Settings, token_max_pixels: int | None = None) -> Body:
    """Return the body of an extra-*, png-info or interrogate call with its images and their enlargement checked.

    Raises RequestError, and LimitExceeded as ``check_generation`` does.
    """
    entries = []
    if body.get("imageList") is not None:
        entries = _image_list(body, "imageList", settings)
    for entry in entries:
        if not isinstance(entry, dict):
            raise RequestError("'imageList' must be a list of objects with 'data' and 'name'").at("imageList")
    if not entries and "image" not in body:
        raise RequestError("'image' is required, or 'imageList': base64 of a PNG, JPEG or WebP").at("image")

    check_places(body)
    rewritten = _without_blank_upscalers(normalize(drop_nulls(body)))
    images = []
    if entries:
        rewritten["imageList"] = []
        for index, entry in enumerate(entries):
            image = decode_field(f"imageList[{index}].data", entry.get("data"), settings)
            images.append(image)
            rewritten["imageList"].append(entry | {"data": image.base64})
    if "image" in body:
        image = decode_field("image", body["image"], settings)
        images.append(image)
        rewritten["image"] = image.base64

    pixels = sum(_count_upscaled_pixels(body, image, settings) for image in images)
    _check_pixels(pixels, settings, token_max_pixels)
    return rewritten


def _without_blank_upscalers(body: Body) -> Body:
    """Return a body without names of upscalers that are blanks: A1111 finds none, and fails."""
    kept = dict(body)
    for field in UPSCALERS:
        if kept.get(field, "").isspace():
            del kept[field]
    return kept


def read_png_info(body: Body, settings: Settings) -> dict[str, Any]:
    """Return an image's generation parameters, as the WebUI's ``/png-info`` does. Raises RequestError."""
    checked = decode_field("image", body.get("image"), settings)
    with Image.open(BytesIO(checked.data), formats=[checked.format.upper()]) as image:
        text, items = infotext.read(image)
    return {"info": text, "items": items, "parameters": infotext.parse(text)}


def check_override_settings(body: Body, allowed: frozenset[str]) -> Body:
    """Return a body that overrides only ``allowed`` settings, and only for this request. Raises SettingNotAllowed."""
    overrides = body.get("override_settings")
    if overrides is not None and not isinstance(overrides, dict):
        raise RequestError("'override_settings' must be an object").at("override_settings")
    for name, value in (overrides or {}).items():
        if name not in allowed:
            nearest = find_nearest(name, allowed)
            suggestion = f"; did you mean {nearest!r}?" if nearest else ""
            raise SettingNotAllowed(
                f"'override_settings': the setting {name[:100]!r} cannot be overridden{suggestion}; "
                f"allowed settings: {join_names(allowed)}"
            ).at(f"override_settings.{name[:100]}")
        _check_override_value(name, value)
        if name == "samples_format" and str(value).lower() not in SAMPLES_FORMATS:
            raise SettingNotAllowed(
                f"'override_settings.samples_format' must be one of {', '.join(SAMPLES_FORMATS)}"
            ).at(f"override_settings.{name}")

    # All callers share the engine's settings: without this, the override would stay for the next caller.
    restore = "override_settings_restore_afterwards"
    if restore in body:
        return body | {restore: True}
    return body


def _check_override_value(name: str, value: Any) -> None:
    if isinstance(value, dict) or (isinstance(value, list) and name not in NAME_LISTS):
        raise SettingNotAllowed(f"'override_settings.{name}' must be a single value").at(f"override_settings.{name}")
    if isinstance(value, list) and not all(isinstance(entry, str) for entry in value):
        raise SettingNotAllowed(f"'override_settings.{name}' must be a list of names that the engine lists").at(
            f"override_settings.{name}"
        )
    if holds_place(value):
        raise SettingNotAllowed(f"'override_settings.{name}' must be a name that the engine lists, not a path").at(
            f"override_settings.{name}"
        )


def check_places(body: Body) -> None:
    """Raise RequestError if a field holds a path or an address at any depth; the engine might open it.

    ``CHECKED_FIELDS`` are left out.
    """
    for field, value in body.items():
        if field not in CHECKED_FIELDS and holds_place(value):
            raise RequestError(f"{field[:100]!r} may hold no file paths and no addresses").at(field[:100])


def check_amount_of_work(body: Body, settings: Settings) -> int:
    """Check the sides, the steps and the number of images of a generation; return the pixels of all its images.

    Each image counts at its largest size. Absent fields have the WebUI's defaults. Raises TooMuchWork if a number is
    over its limit.
    """
    width = _read_number(body, "width", 512, MIN_SIDE, settings.max_side)
    height = _read_number(body, "height", 512, MIN_SIDE, settings.max_side)
    _read_number(body, "steps", 50, 1, settings.max_steps)
    _check_other_steps(body, settings)

    batch_size = _read_number(body, "batch_size", 1, 1, settings.max_images)
    images = batch_size * _read_number(body, "n_iter", 1, 1, settings.max_images)
    if images > settings.max_images:
        raise TooMuchWork(f"a request may ask for {settings.max_images} images; batch_size x n_iter is {images}").at(
            "batch_size"
        )

    if _is_on(body.get("enable_hr")):
        width, height = _second_pass_size(body, width, height, settings)
    _check_side(max(width, height), settings)
    return width * height * images


def _check_other_steps(body: Body, settings: Settings) -> None:
    """Raise TooMuchWork for too many steps of any other pass: engines name them all alike (``refiner_steps``)."""
    for field, value in body.items():
        # Those of a second pass count if there is one.
        other = field.endswith("_steps") and field not in SECOND_PASS_STEPS
        if other and isinstance(value, (int, float, str)) and value and not isinstance(value, bool):
            _read_number(body, field, 0, 0, settings.max_steps)


def _second_pass_size(body: Body, width: int, height: int, settings: Settings) -> tuple[int, int]:
    """Return an image's size after the second pass ("hires fix"), which enlarges it."""
    # An older way to set the size of the first pass, from which the enlargement then starts.
    width = max(width, _read_number(body, "firstphase_width", 0, 0, settings.max_side))
    height = max(height, _read_number(body, "firstphase_height", 0, 0, settings.max_side))
    for field in SECOND_PASS_STEPS:
        if body.get(field) is not None:
            _read_number(body, field, 0, 0, settings.max_steps)

    # A target of other proportions is covered first, and the result is cropped to it.
    target_width = _read_number(body, "hr_resize_x", 0, 0, settings.max_side)
    target_height = _read_number(body, "hr_resize_y", 0, 0, settings.max_side)
    scale = max(target_width / width, target_height / height)
    if not scale:
        scale = _read_number(body, "hr_scale", 2.0, 0.1, MAX_SCALE)
    return max(width, int(width * scale)), max(height, int(height * scale))


def _count_upscaled_pixels(body: Body, image: CheckedImage, settings: Settings) -> int:
    """Return the pixels of an image after upscaling."""
    upscalers = {str(body.get("upscaler_1", "None")), str(body.get("upscaler_2", "None"))}
    if upscalers <= {"None", ""}:
        return image.width * image.height

    if _read_number(body, "resize_mode", 0, 0, 1):
        # A target of other proportions is covered. Whether the result is then cropped does not matter here.
        target_width = _read_number(body, "upscaling_resize_w", 512, 1, settings.max_side)
        target_height = _read_number(body, "upscaling_resize_h", 512, 1, settings.max_side)
        scale = max(target_width / image.width, target_height / image.height)
    else:
        scale = _read_number(body, "upscaling_resize", 2.0, 0.01, MAX_SCALE)
    width = max(image.width, int(image.width * scale))
    height = max(image.height, int(image.height * scale))
    _check_side(max(width, height), settings)
    return width * height


def _check_side(length: int, settings: Settings) -> None:
    if length > settings.max_side:
        raise TooMuchWork(f"an image may have {settings.max_side} pixels on a side, not {length}")


def _check_pixels(count: int, settings: Settings, token_max_pixels: int | None, reason: str = "") -> None:
    if count > settings.max_pixels:
        message = f"the images of a request may have {settings.max_pixels} pixels together, not {count}{reason}"
        raise TooMuchWork(message)
    if token_max_pixels is not None and count > token_max_pixels:
        message = f"this API token may ask for {token_max_pixels} pixels a request (max_pixels), not {count}{reason}"
        raise LimitExceeded(message)


def _read_number(body: Body, field: str, default: N, minimum: N, maximum: N) -> N:
    """Return a field as a number of the default's type, read as the engine reads it."""
    value = body.get(field, default)
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise TypeError
        number = type(default)(value)
        # Written so that NaN is refused, too.
        if not number >= minimum:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise RequestError(f"{field!r} must be a number, {minimum} to {maximum}").at(field) from None
    if number > maximum:
        raise TooMuchWork(f"{field!r} may be {maximum} at most").at(field)
    return number


def _is_on(value: Any) -> bool:
    """Return whether the engine may read a value as true. A value that the engine may refuse counts as true."""
    return str(value).lower() not in _FALSE_WORDS


def _check_images(body: Body, settings: Settings) -> Body:
    """Return a generation's image fields, each image as the bare base64 that was checked.

    Engines treat data URLs and white space differently, and the engine must see what was checked.
    """
    texts = {}
    for field in ("init_images", "extra_images"):
        if body.get(field) is not None:
            texts[field] = _image_list(body, field, settings)

    checked: Body = {}
    first: CheckedImage | None = None
    for field, items in texts.items():
        images = [decode_field(f"{field}[{index}]", item, settings) for index, item in enumerate(items)]
        checked[field] = [image.base64 for image in images]
        if field == "init_images":
            first = images[0]
    if "mask" in body:
        mask = decode_field("mask", body["mask"], settings)
        checked["mask"] = (fit_mask(mask, first) if first is not None else mask).base64
    return checked


def _image_list(body: Body, field: str, settings: Settings) -> list[Any]:
    """Return a field that holds a list of images."""
    items = body[field]
    if not isinstance(items, list) or not items:
        raise RequestError(f"{field!r} must be a list of images").at(field)
    if len(items) > settings.max_images:
        raise TooMuchWork(f"a request may send {settings.max_images} images, not {len(items)} in {field!r}").at(field)
    return items
