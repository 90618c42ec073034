"""Writes the fields of a render as every engine reads them: numbers as numbers, and no null.

A1111 turns ``"64"`` into 64 and takes null for "not given". sd-server answers both with 500, Forge refuses some. So
graycat does that before it, for all engines: what is no number where one is needed is refused here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from graycat.errors import RequestError
from graycat.images.places import holds_place

Body = dict[str, Any]

SEED_FIELDS = ("seed", "subseed")
INT_FIELDS = (
    *("width", "height", "steps", "batch_size", "n_iter", "clip_skip", "seed_resize_from_h", "seed_resize_from_w"),
    *("firstphase_width", "firstphase_height", "hr_resize_x", "hr_resize_y", "hr_second_pass_steps", "hr_steps"),
    *("resize_mode", "mask_blur", "mask_blur_x", "mask_blur_y", "inpainting_fill", "inpaint_full_res_padding"),
    *("upscaling_resize_w", "upscaling_resize_h"),
)
#: Fields with fractions. Engines read "inf" and "nan" as numbers there, and fail when they write them into an answer.
FLOAT_FIELDS = (
    *("cfg_scale", "image_cfg_scale", "denoising_strength", "subseed_strength", "eta", "refiner_switch_at"),
    *("s_min_uncond", "s_churn", "s_tmax", "s_tmin", "s_noise", "initial_noise_multiplier", "hr_scale"),
    *("distilled_cfg_scale", "hr_cfg", "hr_distilled_cfg"),
    *("gfpgan_visibility", "codeformer_visibility", "codeformer_weight", "extras_upscaler_2_visibility"),
    "upscaling_resize",
)
BOOL_FIELDS = (
    *("enable_hr", "restore_faces", "tiling", "send_images", "save_images", "do_not_save_samples", "do_not_save_grid"),
    *("override_settings_restore_afterwards", "disable_extra_networks", "inpaint_full_res", "mask_round"),
    *("include_init_images", "show_extras_results", "upscaling_crop", "upscale_first"),
)
TEXT_FIELDS = (
    *("prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt"),
    *("sampler_name", "sampler_index", "scheduler", "hr_sampler_name", "hr_scheduler", "hr_upscaler"),
    *("hr_checkpoint_name", "refiner_checkpoint", "script_name", "upscaler_1", "upscaler_2"),
)
OBJECT_FIELDS = ("override_settings", "alwayson_scripts", "comments")
LIST_FIELDS = ("styles", "init_images", "extra_images", "script_args", "lora", "imageList", "hr_additional_modules")
OTHER_FIELDS = ("mask", "inpainting_mask_invert")

#: Engines keep such numbers in 32 bits, seeds in 64.
_MAX_INT, _MAX_SEED = 2**31 - 1, 2**63 - 1
#: No scale or strength is larger, and no engine's 32-bit floats overflow.
_MAX_FLOAT = 1e6
_TRUE = {"true", "1", "on", "t", "y", "yes"}
_FALSE = {"false", "0", "0.0", "off", "f", "n", "no"}


def drop_nulls(body: Body) -> Body:
    """Return a body without the fields that are null: each engine has its own default for what is not there."""
    known = {*SEED_FIELDS, *INT_FIELDS, *FLOAT_FIELDS, *BOOL_FIELDS, *TEXT_FIELDS, *OBJECT_FIELDS, *LIST_FIELDS}
    known.update(OTHER_FIELDS)
    return {name: value for name, value in body.items() if value is not None or name not in known}


def normalize(body: Body) -> Body:
    """Return a body whose numbers, truth values and texts have these types. Raises RequestError."""
    changed = dict(body)
    for fields, read in (
        (INT_FIELDS, _read_int),
        (SEED_FIELDS, _read_seed),
        (FLOAT_FIELDS, _read_float),
        (BOOL_FIELDS, _read_bool),
        (TEXT_FIELDS, _read_text),
        (("inpainting_mask_invert",), _read_mask_invert),
        (LIST_FIELDS, _read_list),
    ):
        _read_all(changed, fields, read)
    if changed.get("mask") == "":
        del changed["mask"]
    for index, entry in enumerate(changed.get("lora", [])):
        _check_lora(f"lora[{index}]", entry)
    return changed


def _read_all(body: Body, fields: tuple[str, ...], read: Callable[[str, Any], Any]) -> None:
    for name in fields:
        if name in body:
            body[name] = read(name, body[name])


def _read_int(name: str, value: Any, most: int = _MAX_INT) -> int:
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise TypeError
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        raise RequestError(f"{name!r} must be a whole number").at(name) from None
    if abs(number) > most:
        raise RequestError(f"{name!r} must be a whole number from {-most} to {most}").at(name)
    return number


def _read_seed(name: str, value: Any) -> int:
    """Return a seed. One with a fraction is refused: cut off, it would make another picture without a word."""
    if isinstance(value, float) and not value.is_integer():
        raise RequestError(f"{name!r} must be a whole number").at(name)
    return _read_int(name, value, _MAX_SEED)


def _read_mask_invert(name: str, value: Any) -> int:
    if isinstance(value, bool):
        return int(value)
    return _read_int(name, value)


def _read_float(name: str, value: Any) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise RequestError(f"{name!r} must be a number").at(name) from None
    if not math.isfinite(number):
        raise RequestError(f"{name!r} must be a finite number").at(name)
    if abs(number) > _MAX_FLOAT:
        raise RequestError(f"{name!r} must be a number from {-_MAX_FLOAT:g} to {_MAX_FLOAT:g}").at(name)
    if isinstance(value, str):
        return number
    return value


def _read_bool(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if isinstance(value, (int, float, str)) and word in _TRUE:
        return True
    if isinstance(value, (int, float, str)) and word in _FALSE:
        return False
    raise RequestError(f"{name!r} must be true or false").at(name)


def _read_text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RequestError(f"{name!r} must be a string").at(name)
    return str(value)


def _read_list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise RequestError(f"{name!r} must be a list").at(name)
    if name == "styles":
        for index, style in enumerate(value):
            if not isinstance(style, str):
                raise RequestError(f"'styles[{index}]' must be a string: a name of /sdapi/v1/prompt-styles").at(
                    f"styles[{index}]"
                )
    return value


def _check_lora(path: str, entry: Any) -> None:
    """Check an entry of ``lora``: ``{"path", "multiplier", "is_high_noise"}``. Only sd-server has this field."""
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        raise RequestError(f"'{path}.path' is required: a file by its path inside the engine's folder").at(
            f"{path}.path"
        )
    if "multiplier" in entry:
        entry["multiplier"] = _read_float(f"{path}.multiplier", entry["multiplier"])
    if "is_high_noise" in entry:
        entry["is_high_noise"] = _read_bool(f"{path}.is_high_noise", entry["is_high_noise"])
    file = entry["path"]
    if file.startswith(("/", "\\", "~")) or ":" in file or ".." in file or holds_place(entry):
        raise RequestError("'lora' must name files by their path inside the engine's folder").at(f"{path}.path")
