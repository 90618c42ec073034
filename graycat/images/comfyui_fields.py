"""Fields of the WebUI's txt2img and img2img that workflow templates for ComfyUI can do; any other is refused by name.

A WebUI client sends many fields with values that change nothing: these pass.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from graycat.bounds.names import find_nearest
from graycat.errors import UnsupportedParameter
from graycat.images.fields import GENERATION_FIELDS
from graycat.images.output import FIELD as OUTPUT_FIELD

Body = dict[str, Any]

#: A worker's list that tells which API its engine speaks: ``{"api": COMFYUI}``.
ENGINE_LIST, COMFYUI = "engine", "comfyui"
UPSCALING = "extra-single-image"
#: The calls that templates can do.
CALLS = ("txt2img", "img2img", UPSCALING)
#: Networks that only a WebUI knows.
_OTHER_NETWORK = re.compile(r"<(hypernet|lyco):", re.IGNORECASE)
#: Fields that the templates have, or that only say what becomes of the answer.
_DONE = frozenset(
    {
        *("prompt", "negative_prompt", "seed", "steps", "cfg_scale", "width", "height", "batch_size", "n_iter"),
        *("sampler_name", "sampler_index", "scheduler", "send_images", "save_images", "force_task_id"),
        *("override_settings", "override_settings_restore_afterwards", "model", OUTPUT_FIELD),
        # These would write to the engine's disk, or name its texts: graycat's own files are the only ones.
        *("do_not_save_samples", "do_not_save_grid", "disable_extra_networks"),
    }
)
#: Those of img2img.
_DONE_IMG2IMG = frozenset(
    {
        *("init_images", "mask", "mask_blur", "mask_blur_x", "mask_blur_y", "inpainting_mask_invert"),
        *("denoising_strength", "resize_mode", "include_init_images"),
    }
)
#: Those of extra-single-image.
_DONE_EXTRAS = frozenset(
    {
        *("image", "upscaler_1", "resize_mode", "upscaling_resize", "upscaling_resize_w", "upscaling_resize_h"),
        *("upscaling_crop", "show_extras_results"),
    }
)
#: Values that change nothing, beside null, false, 0, "" and empty lists and objects.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "subseed": (-1,),
    "seed_resize_from_h": (-1,),
    "seed_resize_from_w": (-1,),
    # webuiapi sends 1.0, which is a WebUI's own default for the samplers that read it.
    "eta": (1.0,),
    "s_noise": (1.0,),
    "s_tmax": (999.0, float("inf")),
    "script_name": ("None",),
    "upscaler_2": ("None",),
    "inpainting_fill": (1,),
    "initial_noise_multiplier": (1.0,),
    "refiner_switch_at": (1.0,),
    "refiner_checkpoint": ("None",),
    "image_cfg_scale": (1.5,),
}
#: Fields that matter only beside another one: without that, any value passes.
_ONLY_WITH = {
    "hr_scale": "enable_hr",
    "hr_upscaler": "enable_hr",
    "hr_second_pass_steps": "enable_hr",
    "hr_resize_x": "enable_hr",
    "hr_resize_y": "enable_hr",
    "hr_checkpoint_name": "enable_hr",
    "hr_sampler_name": "enable_hr",
    "hr_scheduler": "enable_hr",
    "hr_prompt": "enable_hr",
    "hr_negative_prompt": "enable_hr",
    "hr_cfg": "enable_hr",
    "hr_distilled_cfg": "enable_hr",
    "hr_additional_modules": "enable_hr",
    "inpainting_fill": "mask",
    "inpaint_full_res": "mask",
    "inpaint_full_res_padding": "inpaint_full_res",
    "script_args": "script_name",
    "extras_upscaler_2_visibility": "upscaler_2",
    "codeformer_weight": "codeformer_visibility",
    "upscale_first": "codeformer_visibility",
    "subseed": "subseed_strength",
    "refiner_switch_at": "refiner_checkpoint",
    "denoising_strength": "enable_hr",
    "resize_mode": "init_images",
    "mask_blur": "mask",
    "mask_blur_x": "mask",
    "mask_blur_y": "mask",
    "inpainting_mask_invert": "mask",
    "mask_round": "mask",
}
#: What to do instead, for fields that many clients send.
_HINTS = {
    "enable_hr": "make the image, and enlarge it with img2img",
    "inpaint_full_res": "send false: the whole picture is used",
    "inpainting_fill": "send 1: the image's own content",
    "script_name": "an operator's workflow may do it: GET /workflows",
    "alwayson_scripts": "an operator's workflow may do it: GET /workflows",
}
#: Settings that a request may override here.
SETTINGS = ("sd_model_checkpoint", "sd_vae", "CLIP_stop_at_last_layers", "samples_format")
_NEUTRAL_SETTINGS = {"samples_format": ("png",), "eta_noise_seed_delta": (0, 31337), "CLIP_stop_at_last_layers": ()}


def is_comfyui(catalog: Mapping[str, Any]) -> bool:
    """Return whether the lists that a worker has reported are those of a ComfyUI."""
    engine = catalog.get(ENGINE_LIST)
    return isinstance(engine, Mapping) and engine.get("api") == COMFYUI


def check_call(call: str) -> None:
    """Raise UnsupportedParameter for a call of the WebUI's, as ``interrogate``, that no template can do."""
    if call not in CALLS:
        raise UnsupportedParameter(call, "ComfyUI has no such call; an operator's workflow may do it: GET /workflows")


def check_request(call: str, body: Body) -> None:
    """Raise UnsupportedParameter for a call, or a field of it, that no template can do."""
    check_call(call)
    if call == UPSCALING:
        check_extras(body)
    else:
        check_fields(body, img2img=bool(body.get("init_images")))


def check_extras(body: Body) -> None:
    """Raise UnsupportedParameter for the first field of extra-single-image that the template cannot do."""
    for field, value in body.items():
        if field not in _DONE_EXTRAS and not _is_neutral(field, value, body):
            hint = _HINTS.get(field) or _suggest(field, _DONE_EXTRAS)
            raise UnsupportedParameter(field[:100], f"not possible with ComfyUI; {hint}")


def check_fields(body: Body, *, img2img: bool) -> None:
    """Raise UnsupportedParameter for the first field that asks for what no template can do."""
    done = _DONE | _DONE_IMG2IMG if img2img else _DONE
    for field, value in body.items():
        if field in done or _is_neutral(field, value, body):
            continue
        hint = _HINTS.get(field) or _suggest(field, done)
        raise UnsupportedParameter(field[:100], f"not possible with ComfyUI; {hint}")
    for field in ("prompt", "negative_prompt"):
        if _OTHER_NETWORK.search(str(body.get(field) or "")):
            raise UnsupportedParameter(field, "ComfyUI has no hypernetworks and LyCORIS; use <lora:NAME:1>")
    _check_settings(body.get("override_settings"))
    if img2img:
        _check_img2img(body)


def _suggest(field: str, known: Collection[str]) -> str:
    """Return what to do about a field that no template has: it may be misspelt."""
    nearest = "" if field in GENERATION_FIELDS else find_nearest(field, known)
    return f"did you mean {nearest!r}?" if nearest else "leave it out"


def _is_neutral(field: str, value: Any, body: Body) -> bool:
    """Return whether a field's value changes nothing."""
    other = _ONLY_WITH.get(field)
    if other is not None and not body.get(other):
        return True
    if field == "alwayson_scripts" and isinstance(value, dict):
        # Clients list scripts without arguments.
        return not any(isinstance(script, dict) and script.get("args") for script in value.values())
    if isinstance(value, str):
        value = value.strip()
        return not value or value in _NEUTRAL.get(field, ())
    return not value or value in _NEUTRAL.get(field, ())


def _check_settings(overrides: Any) -> None:
    for name, value in (overrides or {}).items():
        if value in (None, "") or value in _NEUTRAL_SETTINGS.get(name, ()):
            continue
        if name not in SETTINGS or name == "samples_format":
            raise UnsupportedParameter(f"override_settings.{name[:100]}", "not possible with ComfyUI; leave it out")


def _check_img2img(body: Body) -> None:
    images = body.get("init_images")
    if not isinstance(images, list) or len(images) != 1:
        raise UnsupportedParameter("init_images", "ComfyUI takes one image")
    if str(body.get("resize_mode") or 0) not in ("0", "1"):
        raise UnsupportedParameter("resize_mode", "ComfyUI takes 0 (stretch) or 1 (crop)")
