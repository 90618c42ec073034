"""The fields of a generation that image engines read, by their names: what graycat's own routes and batches take.

Engines pass over a field that they do not know without a word, so that a misspelt one would make hours of wrong
pictures. The WebUI's routes are not checked: their clients send fields of their own.
The lists are those of AUTOMATIC1111 1.10.1, of Forge (main of June 2025), of SD.Next and of stable-diffusion.cpp's
sd-server.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from graycat.bounds.names import MAX_CHARS, find_nearest
from graycat.errors import UnsupportedParameter

#: AUTOMATIC1111: of txt2img and img2img alike, of txt2img, of img2img.
_A1111 = (
    *("prompt", "negative_prompt", "styles", "seed", "subseed", "subseed_strength", "seed_resize_from_h"),
    *("seed_resize_from_w", "sampler_name", "scheduler", "batch_size", "n_iter", "steps", "cfg_scale", "width"),
    *("height", "restore_faces", "tiling", "do_not_save_samples", "do_not_save_grid", "eta", "denoising_strength"),
    *("s_min_uncond", "s_churn", "s_tmax", "s_tmin", "s_noise", "override_settings", "comments", "sampler_index"),
    *("override_settings_restore_afterwards", "refiner_checkpoint", "refiner_switch_at", "disable_extra_networks"),
    *("firstpass_image", "force_task_id", "script_name", "script_args", "send_images", "save_images"),
    *("alwayson_scripts", "infotext"),
    *("enable_hr", "firstphase_width", "firstphase_height", "hr_scale", "hr_upscaler", "hr_second_pass_steps"),
    *("hr_resize_x", "hr_resize_y", "hr_checkpoint_name", "hr_sampler_name", "hr_scheduler", "hr_prompt"),
    "hr_negative_prompt",
    *("init_images", "resize_mode", "image_cfg_scale", "mask", "mask_blur", "mask_blur_x", "mask_blur_y"),
    *("mask_round", "inpainting_fill", "inpaint_full_res", "inpaint_full_res_padding", "inpainting_mask_invert"),
    *("initial_noise_multiplier", "latent_mask", "include_init_images"),
)
_FORGE = ("distilled_cfg_scale", "hr_cfg", "hr_distilled_cfg", "hr_additional_modules", "forge_additional_modules")
_SD_NEXT = (
    *("cfg_end", "clip_skip", "detailer", "diffusers_guidance_rescale", "enhance_prompt", "extra_generation_params"),
    *("face", "face_restoration", "full_quality", "guidance_name", "guidance_rescale", "guidance_scale"),
    *("guidance_start", "guidance_stop", "guidance_true", "hdr_boundary", "hdr_brightness", "hdr_clamp"),
    *("hdr_color", "hdr_color_picker", "hdr_max_boundary", "hdr_max_boundry", "hdr_max_center", "hdr_maximize"),
    *("hdr_mode", "hdr_sharpen", "hdr_threshold", "hdr_tint_ratio", "hidiffusion", "hr_denoising_strength"),
    *("hr_force", "hr_refiner_start", "hr_resize_context", "hr_resize_mode", "image_mask", "ip_adapter"),
    *("pag_adaptive", "pag_scale", "refiner_negative", "refiner_prompt", "refiner_start", "refiner_steps"),
    *("resize_context", "resize_name", "scale_by", "selected_scale_tab", "vae_type", "xyz"),
    *("schedulers_beta_schedule", "schedulers_prediction_type", "schedulers_sigma", "schedulers_timestep_spacing"),
    *("schedulers_use_karras", "schedulers_solver_order", "schedulers_use_loworder", "schedulers_use_thresholding"),
)
_SD_SERVER = ("lora", "extra_images", "clip_skip", "hr_steps")

#: The names of all of them.
GENERATION_FIELDS = frozenset({*_A1111, *_FORGE, *_SD_NEXT, *_SD_SERVER})

#: The fields of extra-single-image and extra-batch-images, and of interrogate (most of these are SD.Next's).
EXTRAS_FIELDS = frozenset(
    {
        *("image", "imageList", "resize_mode", "show_extras_results", "gfpgan_visibility", "codeformer_visibility"),
        *("codeformer_weight", "upscaling_resize", "upscaling_resize_w", "upscaling_resize_h", "upscaling_crop"),
        *("upscaler_1", "upscaler_2", "extras_upscaler_2_visibility", "upscale_first"),
    }
)
INTERROGATE_FIELDS = frozenset(
    {
        *("image", "model", "clip_model", "blip_model", "mode", "analyze", "min_length", "max_length", "chunk_size"),
        *("min_flavors", "max_flavors", "flavor_count", "num_beams"),
    }
)

#: What other programs and people call fields of a generation, and of the other calls.
MEANT: Mapping[str, str] = MappingProxyType(
    {
        "cfg": "cfg_scale",
        "checkpoint": "override_settings.sd_model_checkpoint",
        "ckpt": "override_settings.sd_model_checkpoint",
        "clipskip": "override_settings.CLIP_stop_at_last_layers",
        "denoise": "denoising_strength",
        "guidance": "cfg_scale",
        "hires_fix": "enable_hr",
        "image": "init_images",
        "init_image": "init_images",
        "loras": "a <lora:NAME:1> in the prompt",
        "model": "override_settings.sd_model_checkpoint",
        "negative": "negative_prompt",
        "num_inference_steps": "steps",
        "sampler": "sampler_name",
        "sampling_steps": "steps",
        "sd_model_checkpoint": "override_settings.sd_model_checkpoint",
        "sd_vae": "override_settings.sd_vae",
        "size": "width and height",
        "strength": "denoising_strength",
        "style": "styles",
        "upscaler": "hr_upscaler",
        "vae": "override_settings.sd_vae",
    }
)
MEANT_ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        "factor": "upscaling_resize",
        "height": "upscaling_resize_h",
        "image_list": "imageList",
        "images": "imageList",
        "init_image": "image",
        "init_images": "image",
        "scale": "upscaling_resize",
        "upscaler": "upscaler_1",
        "width": "upscaling_resize_w",
    }
)


def check_known(
    names: Iterable[str],
    further: Collection[str],
    path: str = "",
    known: Collection[str] = GENERATION_FIELDS,
    meant: Mapping[str, str] = MEANT,
) -> None:
    """Raise UnsupportedParameter for the first name that is no field of a call; by default that of a generation.

    ``further``: fields that are known beside those of this file. ``path``: what stands before the names in the error.
    ``meant``: what other programs call the fields.
    """
    for name in names:
        if name in known or name in further:
            continue
        every = {*known, *further}
        nearest = find_nearest(name, every, {other: own for other, own in meant.items() if _is_field(own, every)})
        advice = f"did you mean {nearest!r}?" if nearest else "leave it out"
        # A setting of the operator's makes it known: GRAYCAT_SD_FIELDS.
        raise UnsupportedParameter(f"{path}{name[:MAX_CHARS]}", f"is not a field that graycat knows; {advice}")


def _is_field(meant: str, known: Collection[str]) -> bool:
    """Return whether what a name stands for is there, if it is a single field; else it is a sentence of advice."""
    return " " in meant or "." in meant or meant in known
