"""The bodies of image routes in the OpenAPI document. The WebUI's engines accept many more fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graycat.images.openai_requests import MAX_PARTIAL_IMAGES, STEPS
from graycat.images.output import FORMATS

JSON, FORM = "application/json", "multipart/form-data"

_TEXT: dict[str, Any] = {"type": "string"}
_INTEGER: dict[str, Any] = {"type": "integer"}
_NUMBER: dict[str, Any] = {"type": "number"}
_BOOLEAN: dict[str, Any] = {"type": "boolean"}
_OBJECT: dict[str, Any] = {"type": "object"}
_IMAGE = _TEXT | {"contentEncoding": "base64"}
_FILE: dict[str, Any] = {"type": "string", "format": "binary"}

#: The JSON schema of each field, with its description.
FIELDS: dict[str, dict[str, Any]] = {
    "prompt": _TEXT | {"description": "What the image shows."},
    "negative_prompt": _TEXT | {"description": "What it does not show."},
    "seed": _INTEGER
    | {"description": "The seed of the first image; each further image has the next number. -1: a random seed."},
    "steps": _INTEGER | {"description": "Sampling steps."},
    "width": _INTEGER | {"description": "Pixels."},
    "height": _INTEGER | {"description": "Pixels."},
    "cfg_scale": _NUMBER | {"description": "How closely the image follows the prompt."},
    "sampler_name": _TEXT | {"description": "One of /sdapi/v1/samplers."},
    "scheduler": _TEXT | {"description": "One of /sdapi/v1/schedulers."},
    "batch_size": _INTEGER | {"description": "Images rendered together."},
    "n_iter": _INTEGER | {"description": "Batches, one after the other."},
    "styles": {"type": "array", "items": _TEXT, "description": "Names of /sdapi/v1/prompt-styles."},
    "enable_hr": _BOOLEAN | {"description": "A second pass at a larger size."},
    "hr_scale": _NUMBER | {"description": "How much larger."},
    "hr_upscaler": _TEXT | {"description": "One of /sdapi/v1/upscalers or latent-upscale-modes."},
    "denoising_strength": _NUMBER | {"description": "How much the second pass, or img2img, may change; 0 to 1."},
    "override_settings": _OBJECT
    | {"description": "Settings for this request; GRAYCAT_SD_OVERRIDE_SETTINGS lists those that are allowed."},
    "alwayson_scripts": _OBJECT
    | {"description": "Scripts and their arguments; GRAYCAT_SD_SCRIPTS lists those that are allowed."},
    "send_images": _BOOLEAN | {"description": "Whether the answer holds the images."},
    "init_images": {"type": "array", "items": _IMAGE, "description": "Images to start from: PNG, JPEG or WebP."},
    "mask": _IMAGE | {"description": "Where to paint: white."},
    "mask_blur": _INTEGER | {"description": "Pixels by which the mask's edge is softened."},
    "inpainting_fill": _INTEGER | {"description": "What is under the mask: 0 fill, 1 original, 2 noise, 3 nothing."},
    "inpaint_full_res": _BOOLEAN | {"description": "Whether only the masked part is rendered, at full size."},
    "image": _IMAGE | {"description": "A PNG, JPEG or WebP."},
    "imageList": {"type": "array", "items": _OBJECT, "description": "Objects with 'data' (base64) and 'name'."},
    "upscaler_1": _TEXT | {"description": "One of /sdapi/v1/upscalers."},
    "upscaling_resize": _NUMBER | {"description": "How much larger."},
    "resize_mode": _INTEGER
    | {"description": "How an image is fitted to the size; for upscaling: 0 by the factor, 1 to the size."},
    "upscaling_resize_w": _INTEGER | {"description": "Pixels."},
    "upscaling_resize_h": _INTEGER | {"description": "Pixels."},
    "n": _INTEGER | {"description": "How many images."},
    "size": _TEXT | {"description": "WIDTHxHEIGHT in pixels, or 'auto'."},
    "response_format": {
        "type": "string",
        "enum": ["b64_json", "url"],
        "description": "url: signed addresses, which end with the images.",
    },
    "model": {
        "type": "string",
        "description": "A checkpoint of GET /v1/models; OpenAI's names: the current one.",
    },
    "quality": {"type": "string", "enum": list(STEPS), "description": "Chooses the steps, unless those are given."},
    "output_format": {"type": "string", "enum": list(FORMATS), "description": "The format of the files."},
    "output_compression": {"type": "integer", "minimum": 0, "maximum": 100, "description": "The quality of the file."},
    "stream": {"type": "boolean", "description": "Answer events: previews, then the images."},
    "partial_images": {
        "type": "integer",
        "minimum": 0,
        "maximum": MAX_PARTIAL_IMAGES,
        "description": "The most previews in a stream.",
    },
}

#: The fields of a form that are files.
_FORM_FILES = {
    "image": _FILE | {"description": "The image to change."},
    "mask": _FILE | {"description": "A mask: the image is painted where the mask is transparent."},
}


@dataclass(frozen=True)
class BodyFields:
    """The body of a route: the names of its fields, and which of them are required."""

    fields: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    content: str = JSON

    def schema(self) -> dict[str, Any]:
        """Return the body's JSON schema."""
        schema: dict[str, Any] = {"type": "object", "properties": {name: self._field(name) for name in self.fields}}
        if self.required:
            schema["required"] = list(self.required)
        return schema

    def _field(self, name: str) -> dict[str, Any]:
        if self.content == FORM and name in _FORM_FILES:
            return _FORM_FILES[name]
        return FIELDS[name]


_COMMON = (
    "prompt",
    "negative_prompt",
    "seed",
    "steps",
    "width",
    "height",
    "cfg_scale",
    "sampler_name",
    "scheduler",
    "batch_size",
    "n_iter",
    "styles",
    "denoising_strength",
    "override_settings",
    "alwayson_scripts",
    "send_images",
)
_UPSCALING = ("upscaler_1", "resize_mode", "upscaling_resize", "upscaling_resize_w", "upscaling_resize_h")
_OPENAI = (
    *("prompt", "n", "size", "model", "quality", "response_format", "output_format", "output_compression"),
    *("stream", "partial_images", "seed", "steps", "negative_prompt"),
)

#: The body of each route that takes one, by its endpoint.
BODIES: dict[str, BodyFields] = {
    "sdapi.txt2img": BodyFields((*_COMMON, "enable_hr", "hr_scale", "hr_upscaler")),
    "sdapi.img2img": BodyFields(
        ("init_images", "mask", *_COMMON, "mask_blur", "inpainting_fill", "inpaint_full_res", "resize_mode"),
        ("init_images",),
    ),
    "sdapi.extra_single": BodyFields(("image", *_UPSCALING), ("image",)),
    "sdapi.extra_batch": BodyFields(("imageList", *_UPSCALING), ("imageList",)),
    "sdapi.interrogate": BodyFields(("image",), ("image",)),
    "sdapi.png_info": BodyFields(("image",), ("image",)),
    "sdapi.set_options": BodyFields(),
    "images.generate_image": BodyFields((*_COMMON, "enable_hr", "hr_scale", "hr_upscaler"), ("prompt",)),
    "images.generations": BodyFields(_OPENAI, ("prompt",)),
    "images.edits": BodyFields(("image", "mask", *_OPENAI), ("image", "prompt"), FORM),
}
