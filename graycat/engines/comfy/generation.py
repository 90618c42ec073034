"""The WebUI's txt2img and img2img as workflows: templates with named inputs, one sampler for each image.

Each image has a seed of its own, as in a WebUI: a batch in ComfyUI has one seed, and its second image could not be made
again alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from graycat.engines.comfy import graph
from graycat.engines.comfy.catalog import ComfyCatalog, match_file
from graycat.engines.comfy.graph import Workflow
from graycat.engines.comfy.samplers import label_of_sampler, label_of_scheduler
from graycat.errors import ModelNotFound, RequestError
from graycat.images.comfyui_fields import check_fields

Body = Mapping[str, Any]
#: The largest seed of a WebUI client: it counts up from it, in 64 bits.
MAX_SEED = 2**63 - 1
#: The WebUI's defaults.
DEFAULT_STEPS, DEFAULT_CFG, DEFAULT_SIDE, DEFAULT_STRENGTH = 50, 7.0, 512, 0.75
#: Sides are cut to a multiple of this; the shortest that an empty latent has.
SIDE_STEP, MIN_SIDE = 8, 16
_LORA = re.compile(r"<lora:([^:<>]{1,200})(?::(-?\d{1,3}(?:\.\d{1,6})?))?(?::[^<>]{0,100})?>")
#: ComfyUI reads the file of an embedding that a prompt names.
_EMBEDDING = re.compile(r"embedding:([^\s,()]{1,300})")


@dataclass(frozen=True)
class Generation:
    """A checked request. ``images`` of a request are prepared by ``pictures`` before."""

    prompt: str
    negative_prompt: str
    seeds: Sequence[int]
    steps: int
    cfg_scale: float
    width: int
    height: int
    #: ComfyUI's own names.
    sampler: str
    scheduler: str
    checkpoint: str
    vae: str = ""
    clip_skip: int = 1
    #: File and strength.
    loras: Sequence[tuple[str, float]] = ()
    #: Only of img2img.
    strength: float | None = None
    batch_size: int = 1
    #: The prompts as they were sent, with the names of LoRAs.
    asked: Mapping[str, str] = field(default_factory=dict)

    def build(self, uploads: Mapping[str, str], prefix: str) -> tuple[Workflow, list[str]]:
        """Return the workflow, and the ids of the nodes that save its images, in their order.

        ``uploads``: the names of the files ``image`` and ``mask`` in ComfyUI; ``prefix``: of the files that it makes.
        """
        name = "txt2img"
        if "image" in uploads:
            name = "inpaint" if "mask" in uploads else "img2img"
        workflow = graph.load_template(name)
        self._fill(workflow, uploads)
        self._add_networks(workflow)
        parts = graph.multiply(workflow, "sampler", len(self.seeds))
        whole: Workflow = {}
        for number, part in enumerate(parts):
            part[f"sampler-{number}"]["inputs"]["seed"] = self.seeds[number]
            part[f"saved-{number}"]["inputs"][graph.PREFIX_INPUT] = f"{prefix}/{number}"
            whole |= part
        return whole, [f"saved-{number}" for number in range(len(self.seeds))]

    def _fill(self, workflow: Workflow, uploads: Mapping[str, str]) -> None:
        workflow["checkpoint"]["inputs"]["ckpt_name"] = self.checkpoint
        workflow["positive"]["inputs"]["text"] = self.prompt
        workflow["negative"]["inputs"]["text"] = self.negative_prompt
        sampler = workflow["sampler"]["inputs"]
        sampler |= {"steps": self.steps, "cfg": self.cfg_scale}
        sampler |= {"sampler_name": self.sampler, "scheduler": self.scheduler}
        if self.strength is not None:
            sampler["denoise"] = self.strength
        if not uploads:
            workflow["latent"]["inputs"] |= {"width": self.width, "height": self.height}
        for name, file in uploads.items():
            workflow[name]["inputs"]["image"] = file

    def _add_networks(self, workflow: Workflow) -> None:
        """Put LoRAs, the clip skip and another VAE behind the checkpoint."""
        model, clip = ("checkpoint", 0), ("checkpoint", 1)
        for number, (file, strength) in enumerate(self.loras):
            node = f"lora-{number}"
            inputs: dict[str, Any] = {"model": list(model), "clip": list(clip), "lora_name": file}
            inputs |= {"strength_model": strength, "strength_clip": strength}
            graph.relink(workflow, model, (node, 0))
            graph.relink(workflow, clip, (node, 1))
            workflow[node] = {"class_type": "LoraLoader", "inputs": inputs}
            model, clip = (node, 0), (node, 1)
        if self.clip_skip > 1:
            inputs = {"clip": list(clip), "stop_at_clip_layer": -self.clip_skip}
            graph.relink(workflow, clip, ("clip-skip", 0), but="clip-skip")
            workflow["clip-skip"] = {"class_type": "CLIPSetLastLayer", "inputs": inputs}
        if self.vae:
            graph.relink(workflow, ("checkpoint", 2), ("vae", 0))
            workflow["vae"] = {"class_type": "VAELoader", "inputs": {"vae_name": self.vae}}

    @property
    def sampler_label(self) -> str:
        """Return the WebUI's name of the sampler."""
        return label_of_sampler(self.sampler)

    @property
    def scheduler_label(self) -> str:
        """Return the WebUI's label of the scheduler."""
        return label_of_scheduler(self.scheduler)


def read_generation(body: Body, catalog: ComfyCatalog, default_checkpoint: str, task_id: str) -> Generation:
    """Return what a body of txt2img or img2img asks for. Raises RequestError, ModelNotFound.

    Seeds that it leaves open come from the task's id, so that each attempt at the task makes the same images.
    """
    img2img = bool(body.get("init_images"))
    check_fields(dict(body), img2img=img2img)
    prompt, positive_loras = _split_loras(_text(body, "prompt"), catalog)
    negative_prompt, negative_loras = _split_loras(_text(body, "negative_prompt"), catalog)
    overrides = body.get("override_settings") or {}
    batch_size = int(_number(body, "batch_size", 1))
    count = batch_size * int(_number(body, "n_iter", 1))
    seed = _seed(body.get("seed"), task_id, count)
    sampler, scheduler = _find_sampler(body, catalog)
    return Generation(
        prompt=prompt,
        negative_prompt=negative_prompt,
        seeds=[seed + number for number in range(count)],
        steps=int(_number(body, "steps", DEFAULT_STEPS)),
        cfg_scale=_between(body, "cfg_scale", DEFAULT_CFG, 0.0, 100.0),
        width=_side(body, "width"),
        height=_side(body, "height"),
        sampler=sampler,
        scheduler=scheduler,
        checkpoint=_find_checkpoint(overrides, catalog, default_checkpoint),
        vae=_find_vae(overrides, catalog),
        clip_skip=int(_number(overrides, "CLIP_stop_at_last_layers", 1)),
        loras=(*positive_loras, *negative_loras),
        strength=_between(body, "denoising_strength", DEFAULT_STRENGTH, 0.0, 1.0) if img2img else None,
        batch_size=batch_size,
        asked={"prompt": _text(body, "prompt"), "negative_prompt": _text(body, "negative_prompt")},
    )


def seed_of_task(task_id: str) -> int:
    """Return the seed of a task that names none: 32 bits, always the same."""
    return int.from_bytes(sha256(f"seed/{task_id}".encode()).digest()[:4])


def check_prompt(text: str) -> None:
    """Raise RequestError for a text that would make ComfyUI open a file outside its folder of embeddings."""
    for name in _EMBEDDING.findall(text):
        if ".." in name or name.startswith(("/", "\\", "~")) or ":" in name:
            raise RequestError("'embedding:' in a prompt must name an embedding that the engine lists, not a path")


def _text(body: Body, name: str) -> str:
    text = str(body.get(name) or "")
    check_prompt(text)
    return text


def _split_loras(text: str, catalog: ComfyCatalog) -> tuple[str, list[tuple[str, float]]]:
    """Return a prompt without its LoRAs, and these, as a WebUI reads ``<lora:NAME:STRENGTH>``."""
    loras = []
    for found in _LORA.finditer(text):
        file = match_file(found[1], catalog.loras)
        if file is None:
            raise RequestError(f"the engine has no LoRA {found[1][:100]!r}; GET /sdapi/v1/loras lists those it has")
        loras.append((file, float(found[2] or 1.0)))
    return _LORA.sub("", text), loras


def _number(body: Body, name: str, default: float) -> float:
    value = body.get(name)
    if value is None or value == "":
        return default
    try:
        if isinstance(value, bool):
            raise TypeError
        number = float(value)
        if not math.isfinite(number):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise RequestError(f"{name!r} must be a number") from None
    return number


def _between(body: Body, name: str, default: float, least: float, most: float) -> float:
    number = _number(body, name, default)
    if not least <= number <= most:
        raise RequestError(f"{name!r} must be a number, {least:g} to {most:g}")
    return number


def _side(body: Body, name: str) -> int:
    return max(int(_number(body, name, DEFAULT_SIDE)) // SIDE_STEP * SIDE_STEP, MIN_SIDE)


def _seed(value: Any, task_id: str, count: int) -> int:
    """Return the seed of the first image. Numbers beyond 2^53 stay exact."""
    if value is None or value == "":
        value = -1
    try:
        if isinstance(value, bool):
            raise TypeError
        seed = int(value)
    except (TypeError, ValueError, OverflowError):
        raise RequestError("'seed' must be a whole number") from None
    if seed < 0:
        return seed_of_task(task_id)
    if seed + count - 1 > MAX_SEED:
        raise RequestError(f"'seed' may be {MAX_SEED} at most")
    return seed


def _find_sampler(body: Body, catalog: ComfyCatalog) -> tuple[str, str]:
    # ``sampler_index`` is the older name; clients send both.
    names = {"sampler_name": body.get("sampler_name") or body.get("sampler_index"), "scheduler": body.get("scheduler")}
    for name, value in names.items():
        if value is not None and not isinstance(value, str):
            raise RequestError(f"{name!r} must be a string")
    try:
        return catalog.names.find(names["sampler_name"] or "", names["scheduler"] or "")
    except KeyError as error:
        name = str(error.args[0])
        where = "schedulers" if name == "scheduler" else "samplers"
        raise RequestError(
            f"{name!r}: the engine has no {str(names[name])[:100]!r}; GET /sdapi/v1/{where} lists those it has"
        ) from None


def _find_checkpoint(overrides: Body, catalog: ComfyCatalog, default: str) -> str:
    wanted = overrides.get("sd_model_checkpoint") or default
    found = match_file(str(wanted), catalog.checkpoints)
    if found is None:
        if not catalog.checkpoints:
            raise RequestError("the engine has no checkpoint; its operator puts one into models/checkpoints")
        raise ModelNotFound(str(wanted))
    return found


def _find_vae(overrides: Body, catalog: ComfyCatalog) -> str:
    wanted = str(overrides.get("sd_vae") or "")
    if wanted.lower() in ("", "automatic", "none"):
        return ""
    found = match_file(wanted, catalog.vaes)
    if found is None:
        raise RequestError(f"'override_settings.sd_vae': the engine has no {wanted[:100]!r}")
    return found
