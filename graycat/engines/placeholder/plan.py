"""What a request comes to: sizes, seeds, names and the texts about them, all settled before the first step."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

from graycat.engines.placeholder import catalog, imagefiles
from graycat.engines.placeholder.draw import Picture
from graycat.engines.placeholder.options import Options
from graycat.engines.placeholder.sources import Size, Source
from graycat.images import infotext

#: Random seeds are below this.
SEEDS = 4294967294
#: Sides are cut down to a multiple of this: latents are that much smaller.
LATENT = 8
#: What an image counts for, however small it is: so a request has at most 16384.
LEAST_PIXELS = 4096


def fixed_seed(seed: int | None) -> int:
    """Return a seed, a random one for none or -1."""
    return secrets.randbelow(SEEDS) if seed in (None, -1) else int(seed or 0)


def final_size(fields: dict[str, Any]) -> Size:
    """Return the size of the second pass, or of the only one."""
    width, height = fields["width"], fields["height"]
    if fields.get("enable_hr"):
        x, y = fields["hr_resize_x"], fields["hr_resize_y"]
        if x == y == 0:
            width, height = int(width * fields["hr_scale"]), int(height * fields["hr_scale"])
        else:
            width, height = x or y * width // height, y or x * height // width
    return cut(width, height)


def cut(width: int, height: int) -> Size:
    """Return a size that latents can have."""
    return width // LATENT * LATENT, height // LATENT * LATENT


class Plan:
    """One txt2img or img2img request. ``sources``: what img2img begins with, one for all images or one each of a batch.

    Made when its turn has come; raises what upstream raises for fields that are valid and useless.
    """

    def __init__(self, fields: dict[str, Any], options: Options, sources: Sequence[Source] = ()) -> None:
        self.fields, self.options, self.sources = fields, options, sources
        if fields["prompt"] is None:
            raise AssertionError
        self.batch_size, self.n_iter = int(fields["batch_size"]), int(fields["n_iter"])
        self.size = cut(fields["width"], fields["height"])
        self.final_size = final_size(fields)
        self.negative_prompt = fields["negative_prompt"] or ""
        self._check_bounds()
        count = self.batch_size * self.n_iter
        self.strength = float(fields["subseed_strength"] or 0)
        seed, subseed = fixed_seed(fields["seed"]), fixed_seed(fields["subseed"])
        self.all_seeds = [seed + (number if self.strength == 0 else 0) for number in range(count)]
        self.all_subseeds = [subseed + number for number in range(count)]
        asked = fields["sampler_name"] or fields["sampler_index"]
        self.sampler, self.scheduler = catalog.sampler_and_scheduler(asked, fields["scheduler"])
        self.restore_faces = bool(self._choice("restore_faces", "face_restoration"))
        self.tiling = bool(self._choice("tiling", "tiling"))
        # As an option of this request: both go back when it is done.
        self.clip_skip = int(options["CLIP_stop_at_last_layers"])

    def _check_bounds(self) -> None:
        """Raise IndexError where there is nothing to make, OutOfMemoryError where there is too much."""
        if min(self.batch_size, self.n_iter, *self.size, *self.final_size) < 1:
            raise IndexError("list index out of range")
        images = self.batch_size * self.n_iter
        for size in (self.size, self.final_size):
            imagefiles.check_pixels(*size, images=images)
        # The response repeats the prompts for each image.
        imagefiles.check_pixels(len(self.fields["prompt"]) + len(self.negative_prompt) + LEAST_PIXELS, 1, images)

    def _choice(self, name: str, option: str) -> Any:
        return self.options[option] if self.fields[name] is None else self.fields[name]

    def source(self, index: int) -> Source | None:
        """Return what the image of that number begins with, if anything."""
        return self.sources[index % self.batch_size % len(self.sources)] if self.sources else None

    def steps(self) -> list[int]:
        """Return the steps of each pass."""
        steps = self.fields["steps"]
        if self.sources:
            # Noise is added to a point part of the way, and only the rest is sampled.
            strength = min(self.fields["denoising_strength"], 0.999)
            return [steps if self.options["img2img_fix_steps"] else int(strength * steps) + 1]
        if self.fields["enable_hr"]:
            return [steps, self.fields["hr_second_pass_steps"] or steps]
        return [steps]

    def check_second_pass(self) -> None:
        """Raise TypeError where the second pass has no strength to start from: its default is null."""
        if self.fields["denoising_strength"] is None:
            raise TypeError("'<' not supported between instances of 'NoneType' and 'float'")

    def picture(self, index: int) -> Picture:
        """Return what the image of that number follows from."""
        fields = self.fields
        return Picture(
            prompt=fields["prompt"],
            negative_prompt=self.negative_prompt,
            seed=self.all_seeds[index],
            subseed=self.all_subseeds[index] if self.strength else 0,
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
        if self.sources or fields.get("enable_hr"):
            extra["Denoising strength"] = fields["denoising_strength"]
        if fields.get("enable_hr"):
            resized = fields["hr_resize_x"] or fields["hr_resize_y"]
            extra["Hires resize" if resized else "Hires upscale"] = (
                f"{fields['hr_resize_x']}x{fields['hr_resize_y']}" if resized else fields["hr_scale"]
            )
            extra["Hires steps"] = fields["hr_second_pass_steps"] or None
            extra["Hires upscaler"] = fields["hr_upscaler"] or "Latent"
        if self.sources and fields["mask"] and fields["mask_blur"]:
            extra["Mask blur"] = fields["mask_blur"]
        return {key: value for key, value in extra.items() if value is not None}

    def infotext(self, index: int) -> str:
        """Return the text of the image of that number; it claims every step, also when they were cut short."""
        fields = self.fields
        resize_w, resize_h = fields["seed_resize_from_w"] or 0, fields["seed_resize_from_h"] or 0
        pairs = {
            "Steps": fields["steps"],
            "Sampler": self.sampler,
            "Schedule type": self.scheduler,
            "CFG scale": fields["cfg_scale"],
            "Image CFG scale": fields.get("image_cfg_scale"),
            "Seed": self.all_seeds[index],
            "Face restoration": self.options["face_restoration_model"] if self.restore_faces else None,
            "Size": f"{fields['width']}x{fields['height']}",
            "Model hash": catalog.HASH,
            "Model": catalog.NAME,
            "Variation seed": self.all_subseeds[index] if self.strength else None,
            "Variation seed strength": self.strength or None,
            "Seed resize from": f"{resize_w}x{resize_h}" if resize_w > 0 and resize_h > 0 else None,
            "Clip skip": self.clip_skip if self.clip_skip > 1 else None,
            "Tiling": "True" if self.tiling else None,
        }
        pairs |= self.extra_params() | {"Version": catalog.VERSION}
        return infotext.build(fields["prompt"], self.negative_prompt, pairs)

    def info(self, infotexts: list[str], index_of_first_image: int, job_timestamp: str) -> str:
        """Return the ``info`` of the response: a string of JSON."""
        fields, count = self.fields, len(self.all_seeds)
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
                "face_restoration_model": self.options["face_restoration_model"] if self.restore_faces else None,
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
