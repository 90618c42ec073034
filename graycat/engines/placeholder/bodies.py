"""The fields of each route's body, in the order of ``parameters`` in the response."""

from __future__ import annotations

from graycat.engines.placeholder.schema import (
    Field,
    array,
    boolean,
    integer,
    list_of,
    mapping,
    model,
    number,
    one_of,
    text,
    within,
)

#: The first fields of txt2img and img2img.
_SAMPLING = (
    Field("prompt", text, ""),
    Field("negative_prompt", text, ""),
    Field("styles", list_of(text)),
    Field("seed", integer, -1),
    Field("subseed", integer, -1),
    Field("subseed_strength", number, 0),
    Field("seed_resize_from_h", integer, -1),
    Field("seed_resize_from_w", integer, -1),
    Field("sampler_name", text),
    Field("scheduler", text),
    Field("batch_size", integer, 1),
    Field("n_iter", integer, 1),
    Field("steps", integer, 50),
    Field("cfg_scale", number, 7.0),
    Field("width", integer, 512),
    Field("height", integer, 512),
    Field("restore_faces", boolean),
    Field("tiling", boolean),
    Field("do_not_save_samples", boolean, False),
    Field("do_not_save_grid", boolean, False),
    Field("eta", number),
    Field("denoising_strength", number),
    Field("s_min_uncond", number),
    Field("s_churn", number),
    Field("s_tmax", number),
    Field("s_tmin", number),
    Field("s_noise", number),
    Field("override_settings", mapping),
    Field("override_settings_restore_afterwards", boolean, True),
    Field("refiner_checkpoint", text),
    Field("refiner_switch_at", number),
    Field("disable_extra_networks", boolean, False),
    Field("firstpass_image", text),
    Field("comments", mapping),
)

#: The last fields of both.
_DELIVERY = (
    Field("script_name", text),
    Field("script_args", array, [], nullable=False),
    Field("send_images", boolean, True, nullable=False),
    Field("save_images", boolean, False, nullable=False),
    Field("alwayson_scripts", mapping, {}, nullable=False),
    Field("infotext", text),
)

_TASK_ID = Field("force_task_id", text)
_SAMPLER_INDEX = Field("sampler_index", text, "Euler", nullable=False)

TXT2IMG = (
    *_SAMPLING,
    Field("enable_hr", boolean, False),
    Field("firstphase_width", integer, 0),
    Field("firstphase_height", integer, 0),
    Field("hr_scale", number, 2.0),
    Field("hr_upscaler", text),
    Field("hr_second_pass_steps", integer, 0),
    Field("hr_resize_x", integer, 0),
    Field("hr_resize_y", integer, 0),
    Field("hr_checkpoint_name", text),
    Field("hr_sampler_name", text),
    Field("hr_scheduler", text),
    Field("hr_prompt", text, ""),
    Field("hr_negative_prompt", text, ""),
    _TASK_ID,
    _SAMPLER_INDEX,
    *_DELIVERY,
)

#: The same fields, but the strength of img2img has a default and cannot be null.
_IMG2IMG_SAMPLING = [
    field if field.name != "denoising_strength" else Field(field.name, number, 0.75, nullable=False)
    for field in _SAMPLING
]

IMG2IMG = (
    *_IMG2IMG_SAMPLING,
    Field("init_images", array),
    Field("resize_mode", integer, 0),
    Field("image_cfg_scale", number),
    Field("mask", text),
    Field("mask_blur_x", integer, 4),
    Field("mask_blur_y", integer, 4),
    Field("mask_blur", integer),
    Field("mask_round", boolean, True),
    Field("inpainting_fill", integer, 0),
    Field("inpaint_full_res", boolean, True),
    Field("inpaint_full_res_padding", integer, 0),
    Field("inpainting_mask_invert", integer, 0),
    Field("initial_noise_multiplier", number),
    Field("latent_mask", text),
    _TASK_ID,
    _SAMPLER_INDEX,
    Field("include_init_images", boolean, False, nullable=False),
    *_DELIVERY,
)

_VISIBILITY = within(number, ge=0, le=1)

_EXTRAS = (
    Field("resize_mode", one_of(0, 1), 0, nullable=False),
    Field("show_extras_results", boolean, True, nullable=False),
    Field("gfpgan_visibility", _VISIBILITY, 0.0, nullable=False),
    Field("codeformer_visibility", _VISIBILITY, 0.0, nullable=False),
    Field("codeformer_weight", _VISIBILITY, 0.0, nullable=False),
    Field("upscaling_resize", within(number, gt=0), 2.0, nullable=False),
    Field("upscaling_resize_w", within(integer, ge=1), 512, nullable=False),
    Field("upscaling_resize_h", within(integer, ge=1), 512, nullable=False),
    Field("upscaling_crop", boolean, True, nullable=False),
    Field("upscaler_1", text, "None", nullable=False),
    Field("upscaler_2", text, "None", nullable=False),
    Field("extras_upscaler_2_visibility", _VISIBILITY, 0.0, nullable=False),
    Field("upscale_first", boolean, False, nullable=False),
)

_FILE = (
    Field("data", text, nullable=False, required=True),
    Field("name", text, nullable=False, required=True),
)

EXTRA_SINGLE = (*_EXTRAS, Field("image", text, "", nullable=False))
EXTRA_BATCH = (*_EXTRAS, Field("imageList", list_of(model(_FILE)), nullable=False, required=True))
PNG_INFO = (Field("image", text, nullable=False, required=True),)
INTERROGATE = (Field("image", text, "", nullable=False), Field("model", text, "clip", nullable=False))
PROGRESS = (Field("skip_current_image", boolean, False, nullable=False),)
