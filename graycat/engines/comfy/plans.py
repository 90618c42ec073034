"""What becomes of a task: the workflow that is sent for it, and the answer out of what it made."""

from __future__ import annotations

import json
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from graycat.engines.comfy import pictures
from graycat.engines.comfy.catalog import stem
from graycat.engines.comfy.generation import Generation
from graycat.engines.comfy.graph import Workflow
from graycat.engines.comfy.wire import History, OutputFile
from graycat.engines.comfy.workflows import NamedWorkflow
from graycat.errors import EngineProtocolError
from graycat.images import infotext
from graycat.images.replies import UNKNOWN, content_type

#: Fields of a request that hold images; an answer does not repeat them.
_IMAGE_FIELDS = ("init_images", "mask", "extra_images")
#: The most images and characters of text of an operator's workflow that are fetched; the rest is counted.
MAX_IMAGES, MAX_TEXT_CHARS = 64, 65536

Fetch = Callable[[OutputFile], bytes]


class Plan(Protocol):
    """A task that was read and checked."""

    @property
    def uploads(self) -> Mapping[str, bytes]:
        """Return the images to upload, by the names under which ``build`` gets the names of the files."""

    def build(self, files: Mapping[str, str], prefix: str) -> Workflow:
        """Return the workflow. ``prefix``: of the files that it makes."""

    def answer(self, history: History, fetch: Fetch) -> dict[str, Any]:
        """Return the answer. Raises EngineProtocolError."""


@dataclass
class GenerationPlan:
    """A txt2img or img2img of the WebUI's."""

    generation: Generation
    body: Mapping[str, Any]
    uploads: Mapping[str, bytes]
    strip: bool

    def build(self, files: Mapping[str, str], prefix: str) -> Workflow:
        """Return the workflow."""
        return self.generation.build(files, prefix)[0]

    def answer(self, history: History, fetch: Fetch) -> dict[str, Any]:
        """Return the WebUI's answer: images, and ``info`` of those that there are."""
        images, seeds, infotexts = [], [], []
        size = (self.generation.width, self.generation.height)
        for number, seed in enumerate(self.generation.seeds):
            # An interrupted prompt has not made all.
            for file in history.files.get(f"saved-{number}", [])[:1]:
                data = fetch(file)
                size = read_size(data)
                text = self._infotext(seed, size)
                if self.strip:
                    data = pictures.strip_texts(data)
                images.append(b64encode(pictures.add_infotext(data, text)).decode())
                seeds.append(seed)
                infotexts.append(text)
        if not images and history.outcome == "success":
            raise EngineProtocolError
        echo = {name: value for name, value in self.body.items() if name not in _IMAGE_FIELDS}
        info = self._info(seeds or list(self.generation.seeds[:1]), infotexts, size)
        return {"images": images, "parameters": echo, "info": json.dumps(info)}

    def _infotext(self, seed: int, size: tuple[int, int]) -> str:
        made = self.generation
        pairs: dict[str, Any] = {
            "Steps": made.steps,
            "Sampler": made.sampler_label,
            "Schedule type": made.scheduler_label,
            "CFG scale": f"{made.cfg_scale:g}",
            "Seed": seed,
            "Size": f"{size[0]}x{size[1]}",
            "Model": stem(made.checkpoint),
            "VAE": stem(made.vae) or None,
            "Denoising strength": made.strength,
            "Clip skip": made.clip_skip if made.clip_skip > 1 else None,
            "Version": "ComfyUI",
        }
        return infotext.build(made.asked["prompt"], made.asked["negative_prompt"], pairs)

    def _info(self, seeds: list[int], infotexts: list[str], size: tuple[int, int]) -> dict[str, Any]:
        made = self.generation
        count = len(seeds)
        prompt, negative_prompt = made.asked["prompt"], made.asked["negative_prompt"]
        return {
            "prompt": prompt,
            "all_prompts": [prompt] * count,
            "negative_prompt": negative_prompt,
            "all_negative_prompts": [negative_prompt] * count,
            "seed": seeds[0],
            "all_seeds": seeds,
            "subseed": -1,
            "all_subseeds": [-1] * count,
            "subseed_strength": 0,
            "width": size[0],
            "height": size[1],
            "sampler_name": made.sampler_label,
            "scheduler": made.scheduler_label,
            "cfg_scale": made.cfg_scale,
            "steps": made.steps,
            "batch_size": made.batch_size,
            "restore_faces": False,
            "face_restoration_model": None,
            "sd_model_name": stem(made.checkpoint),
            "sd_model_hash": None,
            "sd_vae_name": made.vae or None,
            "sd_vae_hash": None,
            "seed_resize_from_w": -1,
            "seed_resize_from_h": -1,
            "denoising_strength": made.strength,
            "extra_generation_params": {},
            "index_of_first_image": 0,
            "infotexts": infotexts,
            "styles": [],
            "job_timestamp": time.strftime("%Y%m%d%H%M%S"),
            "clip_skip": made.clip_skip,
            "is_using_inpainting_conditioning": False,
            "version": "ComfyUI",
        }


@dataclass
class WorkflowPlan:
    """A run of an operator's workflow."""

    named: NamedWorkflow
    values: Mapping[str, Any]
    task_id: str
    strip: bool

    def __post_init__(self) -> None:
        self.uploads: dict[str, bytes] = {}
        for name in self.named.images:
            if name in self.values:
                self.uploads[name] = b64decode(self.values[name])

    def build(self, files: Mapping[str, str], prefix: str) -> Workflow:
        """Return the workflow."""
        return self.named.fill({**self.values, **files}, self.task_id, prefix)[0]

    def answer(self, history: History, fetch: Fetch) -> dict[str, Any]:
        """Return the images in the order of their nodes, the texts, the seeds, and the workflow if it may be shown."""
        images: list[str] = []
        outputs: list[dict[str, Any]] = []
        left_out = 0
        saved = [file for files in history.files.values() for file in files if file.folder == "output"]
        for node, files in sorted(history.files.items()):
            for file in files:
                # Previews count only where nothing was saved.
                if (saved and file.folder != "output") or len(images) >= MAX_IMAGES:
                    left_out += 1
                    continue
                data = fetch(file)
                read_size(data)
                if self.strip:
                    data = pictures.strip_texts(data)
                images.append(b64encode(data).decode())
                outputs.append({"node": node, "class": self.named.workflow.get(node, {}).get("class_type")})
        if not images and not history.texts and history.outcome == "success":
            raise EngineProtocolError
        workflow, seeds = self.named.fill(self._shown(), self.task_id, "graycat")
        texts = "\n".join(text for part in history.texts.values() for text in part)
        info: dict[str, Any] = {
            "workflow": self.named.name,
            "digest": self.named.digest,
            "seeds": seeds,
            "outputs": outputs,
            "texts": texts[:MAX_TEXT_CHARS],
            "left_out": left_out,
        }
        answer = {"images": images, "parameters": self._shown(), "info": json.dumps(info)}
        if not self.strip:
            answer["workflow"] = workflow
        return answer

    def _shown(self) -> dict[str, Any]:
        """Return the values without the images."""
        return {name: value for name, value in self.values.items() if name not in self.uploads}


def read_size(data: bytes) -> tuple[int, int]:
    """Return width and height of what was made. Raises EngineProtocolError if that is no image."""
    if content_type(data) == UNKNOWN:
        raise EngineProtocolError
    try:
        return pictures.size_of(data)
    except ValueError:
        raise EngineProtocolError from None
