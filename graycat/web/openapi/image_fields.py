"""The bodies of image routes as the documentation shows them; the WebUI's engines take many more fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

JSON, FORM = "application/json", "multipart/form-data"

_TEXT: dict[str, Any] = {"type": "string"}
_WHOLE: dict[str, Any] = {"type": "integer"}
_NUMBER: dict[str, Any] = {"type": "number"}
_FLAG: dict[str, Any] = {"type": "boolean"}
_OBJECT: dict[str, Any] = {"type": "object"}
_IMAGE = _TEXT | {"contentEncoding": "base64"}
_FILE: dict[str, Any] = {"type": "string", "format": "binary"}

#: JSON schema of each field, its meaning within.
FIELDS: dict[str, dict[str, Any]] = {
    "prompt": _TEXT | {"description": "What the image shows."},
    "negative_prompt": _TEXT | {"description": "What it does not show."},
    "seed": _WHOLE | {"description": "Of the first image, one more for each further; -1: a random one."},
    "steps": _WHOLE | {"description": "Sampling steps."},
    "width": _WHOLE | {"description": "Pixels."},
    "height": _WHOLE | {"description": "Pixels."},
    "cfg_scale": _NUMBER | {"description": "How closely the image follows the prompt."},
    "sampler_name": _TEXT | {"description": "One of /sdapi/v1/samplers."},
    "scheduler": _TEXT | {"description": "One of /sdapi/v1/schedulers."},
    "batch_size": _WHOLE | {"description": "Images rendered together."},
    "n_iter": _WHOLE | {"description": "Batches, one after the other."},
    "styles": {"type": "array", "items": _TEXT, "description": "Names of /sdapi/v1/prompt-styles."},
    "enable_hr": _FLAG | {"description": "A second pass at a larger size."},
    "hr_scale": _NUMBER | {"description": "How much larger."},
    "hr_upscaler": _TEXT | {"description": "One of /sdapi/v1/upscalers or latent-upscale-modes."},
    "denoising_strength": _NUMBER | {"description": "How much the second pass, or img2img, may change; 0 to 1."},
    "override_settings": _OBJECT | {"description": "Settings for this request, of GRAYCAT_SD_OVERRIDE_SETTINGS."},
    "alwayson_scripts": _OBJECT | {"description": "Scripts and their arguments, of GRAYCAT_SD_SCRIPTS."},
    "send_images": _FLAG | {"description": "Whether the answer holds the images."},
    "init_images": {"type": "array", "items": _IMAGE, "description": "Images to start from: PNG, JPEG or WebP."},
    "mask": _IMAGE | {"description": "Where to paint: white."},
    "mask_blur": _WHOLE | {"description": "Pixels by which the mask's edge is softened."},
    "inpainting_fill": _WHOLE | {"description": "What is under the mask: 0 fill, 1 original, 2 noise, 3 nothing."},
    "inpaint_full_res": _FLAG | {"description": "Whether the masked part alone is rendered, at full size."},
    "image": _IMAGE | {"description": "A PNG, JPEG or WebP."},
    "imageList": {"type": "array", "items": _OBJECT, "description": "Objects with 'data' (base64) and 'name'."},
    "upscaler_1": _TEXT | {"description": "One of /sdapi/v1/upscalers."},
    "upscaling_resize": _NUMBER | {"description": "How much larger."},
    "resize_mode": _WHOLE | {"description": "How a size is met; to upscale: 0 by the factor, 1 to the size."},
    "upscaling_resize_w": _WHOLE | {"description": "Pixels."},
    "upscaling_resize_h": _WHOLE | {"description": "Pixels."},
    "n": _WHOLE | {"description": "How many images."},
    "size": _TEXT | {"description": "WIDTHxHEIGHT in pixels, or 'auto'."},
    "response_format": {"type": "string", "enum": ["b64_json", "url"], "description": "url: wants the API token, too."},
}


@dataclass(frozen=True)
class Described:
    """A body: the names of its fields, and which are required."""

    fields: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    content: str = JSON

    def schema(self) -> dict[str, Any]:
        """Return the body's JSON schema."""
        schema: dict[str, Any] = {"type": "object", "properties": {name: self._field(name) for name in self.fields}}
        return schema | ({"required": list(self.required)} if self.required else {})

    def _field(self, name: str) -> dict[str, Any]:
        if self.content == FORM and name in ("image", "mask"):
            meaning = "What to change." if name == "image" else "Where to paint: where it is transparent."
            return _FILE | {"description": meaning}
        return FIELDS[name]


_COMMON = (
    *("prompt", "negative_prompt", "seed", "steps", "width", "height", "cfg_scale", "sampler_name", "scheduler"),
    *("batch_size", "n_iter", "styles", "denoising_strength", "override_settings", "alwayson_scripts", "send_images"),
)
_UPSCALING = ("upscaler_1", "resize_mode", "upscaling_resize", "upscaling_resize_w", "upscaling_resize_h")
_OPENAI = ("prompt", "n", "size", "response_format")

#: The body of each route that takes one, by its endpoint.
BODIES: dict[str, Described] = {
    "sdapi.txt2img": Described((*_COMMON, "enable_hr", "hr_scale", "hr_upscaler")),
    "sdapi.img2img": Described(
        ("init_images", "mask", *_COMMON, "mask_blur", "inpainting_fill", "inpaint_full_res", "resize_mode"),
        ("init_images",),
    ),
    "sdapi.extra_single": Described(("image", *_UPSCALING), ("image",)),
    "sdapi.extra_batch": Described(("imageList", *_UPSCALING), ("imageList",)),
    "sdapi.interrogate": Described(("image",), ("image",)),
    "sdapi.png_info": Described(("image",), ("image",)),
    "sdapi.set_options": Described(),
    "images.generate_image": Described((*_COMMON, "enable_hr", "hr_scale", "hr_upscaler"), ("prompt",)),
    "images.generations": Described(_OPENAI, ("prompt",)),
    "images.edits": Described(("image", "mask", *_OPENAI), ("image", "prompt"), FORM),
}
