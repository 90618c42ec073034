"""Turns a request into a plan: sizes, seeds, names and infotexts, all decided before the first step."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

from graycat.engines.placeholder import catalog, imagefiles
from graycat.engines.placeholder.draw import Picture
from graycat.engines.placeholder.imagefiles import Size
from graycat.engines.placeholder.init_images import InitImage
from graycat.engines.placeholder.options import Options
from graycat.images import infotext

#: Random seeds are smaller than this.
MAX_RANDOM_SEED = 4294967294
#: Sides are rounded down to a multiple of this, because latents are smaller by this factor.
LATENT_FACTOR = 8
#: A smaller image counts as one of so many pixels. So a request has at most 16384 images.
MIN_COUNTED_PIXELS = 4096


def choose_seed(seed: int | None) -> int:
    """Return the given seed, or a random one for None and -1."""
    if seed is None or seed == -1:
        return secrets.randbelow(MAX_RANDOM_SEED)
    return int(seed)


def choose_final_size(fields: dict[str, Any]) -> Size:
    """Return the size after the second pass, or after the only one."""
    width, height = fields["width"], fields["height"]
    if fields.get("enable_hr"):
        x, y = fields["hr_resize_x"], fields["hr_resize_y"]
        if x == y == 0:
            width = int(width * fields["hr_scale"])
            height = int(height * fields["hr_scale"])
        else:
            width, height = x or y * width // height, y or x * height // width
    return round_size(width, height)


def round_size(width: int, height: int) -> Size:
    """Return the size rounded down to one that latents can have."""
    return width // LATENT_FACTOR * LATENT_FACTOR, height // LATENT_FACTOR * LATENT_FACTOR


class Plan:
    """One txt2img or img2img request. ``init_images``: one for all images, or one for each image of a batch.

    It is made when the request's turn has come. Raises upstream's errors for fields that are valid but unusable.
    """

    def __init__(self, fields: dict[str, Any], options: Options, init_images: Sequence[InitImage] = ()) -> None:
        self.fields = fields
        self.options = options
        self.init_images = init_images
        if fields["prompt"] is None:
            raise AssertionError
        self.batch_size = int(fields["batch_size"])
        self.n_iter = int(fields["n_iter"])
        self.size = round_size(fields["width"], fields["height"])
        self.final_size = choose_final_size(fields)
        self.negative_prompt = fields["negative_prompt"] or ""
        self._check_bounds()

        self.strength = float(fields["subseed_strength"] or 0)
        seed = choose_seed(fields["seed"])
        subseed = choose_seed(fields["subseed"])
        self.all_seeds: list[int] = []
        self.all_subseeds: list[int] = []
        for number in range(self.batch_size * self.n_iter):
            # With a strength, the variation seed alone distinguishes the images.
            if self.strength == 0:
                self.all_seeds.append(seed + number)
            else:
                self.all_seeds.append(seed)
            self.all_subseeds.append(subseed + number)

        sampler = fields["sampler_name"] or fields["sampler_index"]
        self.sampler, self.scheduler = catalog.resolve_sampler(sampler, fields["scheduler"])
        self.restore_faces = bool(self._field_or_option("restore_faces", "face_restoration"))
        self.tiling = bool(self._field_or_option("tiling", "tiling"))
        # Read once: another request may change the option while the images are made.
        self.clip_skip = int(options["CLIP_stop_at_last_layers"])

    def _check_bounds(self) -> None:
        """Raise IndexError if there is nothing to make, OutOfMemoryError if there is too much."""
        if min(self.batch_size, self.n_iter, *self.size, *self.final_size) < 1:
            raise IndexError("list index out of range")
        images = self.batch_size * self.n_iter
        for size in (self.size, self.final_size):
            imagefiles.check_pixels(*size, images=images)
        # The response repeats the prompts for each image.
        prompt_chars = len(self.fields["prompt"]) + len(self.negative_prompt)
        imagefiles.check_pixels(prompt_chars + MIN_COUNTED_PIXELS, 1, images)

    def _field_or_option(self, field: str, option: str) -> Any:
        if self.fields[field] is None:
            return self.options[option]
        return self.fields[field]

    def init_image(self, index: int) -> InitImage | None:
        """Return the init image of the image with this index, if there is one."""
        if not self.init_images:
            return None
        index_in_batch = index % self.batch_size
        return self.init_images[index_in_batch % len(self.init_images)]

    def steps(self) -> list[int]:
        """Return the number of steps of each pass."""
        steps = self.fields["steps"]
        if self.init_images:
            if self.options["img2img_fix_steps"]:
                return [steps]
            # Noise is added up to a point in the middle of the schedule, and only the rest is sampled.
            strength = min(self.fields["denoising_strength"], 0.999)
            return [int(strength * steps) + 1]
        if self.fields["enable_hr"]:
            return [steps, self.fields["hr_second_pass_steps"] or steps]
        return [steps]

    def check_second_pass(self) -> None:
        """Raise TypeError if the second pass has no denoising strength: its default is null."""
        if self.fields["denoising_strength"] is None:
            raise TypeError("'<' not supported between instances of 'NoneType' and 'float'")

    def picture(self, index: int) -> Picture:
        """Return what determines the image with this index."""
        fields = self.fields
        subseed = 0
        if self.strength:
            subseed = self.all_subseeds[index]
        return Picture(
            prompt=fields["prompt"],
            negative_prompt=self.negative_prompt,
            seed=self.all_seeds[index],
            subseed=subseed,
            subseed_strength=self.strength,
            size=(fields["width"], fields["height"]),
            sampler=self.sampler,
            scheduler=self.scheduler,
            steps=fields["steps"],
            cfg_scale=fields["cfg_scale"],
        )

    def extra_params(self) -> dict[str, Any]:
        """Return what a second pass or a mask adds to the infotext."""
        fields = self.fields
        extra: dict[str, Any] = {}
        if self.init_images or fields.get("enable_hr"):
            extra["Denoising strength"] = fields["denoising_strength"]
        if fields.get("enable_hr"):
            if fields["hr_resize_x"] or fields["hr_resize_y"]:
                extra["Hires resize"] = f"{fields['hr_resize_x']}x{fields['hr_resize_y']}"
            else:
                extra["Hires upscale"] = fields["hr_scale"]
            extra["Hires steps"] = fields["hr_second_pass_steps"] or None
            extra["Hires upscaler"] = fields["hr_upscaler"] or "Latent"
        if self.init_images and fields["mask"] and fields["mask_blur"]:
            extra["Mask blur"] = fields["mask_blur"]
        return {key: value for key, value in extra.items() if value is not None}

    def infotext(self, index: int) -> str:
        """Return the infotext of the image with this index. It names all steps, even if the image was stopped."""
        fields = self.fields
        # infotext.build leaves out the pairs whose value is None.
        pairs: dict[str, Any] = {
            "Steps": fields["steps"],
            "Sampler": self.sampler,
            "Schedule type": self.scheduler,
            "CFG scale": fields["cfg_scale"],
            "Image CFG scale": fields.get("image_cfg_scale"),
            "Seed": self.all_seeds[index],
            "Face restoration": self._face_restoration_model(),
            "Size": f"{fields['width']}x{fields['height']}",
            "Model hash": catalog.HASH,
            "Model": catalog.NAME,
        }
        if self.strength:
            pairs["Variation seed"] = self.all_subseeds[index]
            pairs["Variation seed strength"] = self.strength
        resize_width = fields["seed_resize_from_w"] or 0
        resize_height = fields["seed_resize_from_h"] or 0
        if resize_width > 0 and resize_height > 0:
            pairs["Seed resize from"] = f"{resize_width}x{resize_height}"
        if self.clip_skip > 1:
            pairs["Clip skip"] = self.clip_skip
        if self.tiling:
            pairs["Tiling"] = "True"
        pairs.update(self.extra_params())
        pairs["Version"] = catalog.VERSION
        return infotext.build(fields["prompt"], self.negative_prompt, pairs)

    def _face_restoration_model(self) -> Any:
        if not self.restore_faces:
            return None
        return self.options["face_restoration_model"]

    def info(self, infotexts: list[str], index_of_first_image: int, job_timestamp: str) -> str:
        """Return the field ``info`` of the response: a string of JSON."""
        fields = self.fields
        count = len(self.all_seeds)
        return json.dumps(
            {
                "prompt": fields["prompt"],
                "all_prompts": [fields["prompt"]] * count,
                "negative_prompt": self.negative_prompt,
                "all_negative_prompts": [self.negative_prompt] * count,
                "seed": self.all_seeds[0],
                "all_seeds": self.all_seeds,
                "subseed": self.all_subseeds[0],
                "all_subseeds": self.all_subseeds,
                "subseed_strength": self.strength,
                "width": fields["width"],
                "height": fields["height"],
                "sampler_name": self.sampler,
                "cfg_scale": fields["cfg_scale"],
                "steps": fields["steps"],
                "batch_size": self.batch_size,
                "restore_faces": self.restore_faces,
                "face_restoration_model": self._face_restoration_model(),
                "sd_model_name": catalog.NAME,
                "sd_model_hash": catalog.HASH,
                "sd_vae_name": None,
                "sd_vae_hash": None,
                "seed_resize_from_w": fields["seed_resize_from_w"],
                "seed_resize_from_h": fields["seed_resize_from_h"],
                "denoising_strength": fields["denoising_strength"],
                "extra_generation_params": self.extra_params(),
                "index_of_first_image": index_of_first_image,
                "infotexts": infotexts,
                "styles": fields["styles"] or [],
                "job_timestamp": job_timestamp,
                "clip_skip": self.clip_skip,
                "is_using_inpainting_conditioning": False,
                "version": catalog.VERSION,
            }
        )
