"""What a ComfyUI has: its samplers, models and choices, from ``/object_info``, and the WebUI's lists of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from graycat.engines.comfy.samplers import SamplerNames

ObjectInfo = Mapping[str, Any]
#: Ways in which any ComfyUI scales an image without a model, by the WebUI's names.
PLAIN_UPSCALERS = {"Lanczos": "lanczos", "Nearest": "nearest-exact"}


def input_spec(info: ObjectInfo, node_class: str, name: str) -> tuple[Any, Mapping[str, Any]] | None:
    """Return type and options of an input of a class of nodes; None if there is none.

    ``{"required": {"steps": ["INT", {"default": 20, "min": 1}]}}``; a choice is a list in place of the type, or
    ``"COMBO"`` with ``options`` (both are in use).
    """
    entry = info.get(node_class)
    groups = entry.get("input") if isinstance(entry, Mapping) else None
    if not isinstance(groups, Mapping):
        return None
    for group in ("required", "optional"):
        inputs = groups.get(group)
        spec = inputs.get(name) if isinstance(inputs, Mapping) else None
        if isinstance(spec, list) and spec:
            options = spec[1] if len(spec) > 1 and isinstance(spec[1], Mapping) else {}
            return spec[0], options
    return None


def choices_of(spec: tuple[Any, Mapping[str, Any]] | None) -> list[Any] | None:
    """Return the choices of an input; None if it is no choice."""
    if spec is None:
        return None
    kind, options = spec
    if isinstance(kind, list):
        return kind
    if kind == "COMBO" and isinstance(options.get("options"), list):
        return list(options["options"])
    return None


def texts(values: Sequence[Any] | None) -> list[str]:
    """Return the texts among some choices."""
    return [value for value in values or () if isinstance(value, str)]


def stem(name: str) -> str:
    """Return the name of a model's file without folders and extension, as WebUI clients name it."""
    return PurePosixPath(name.replace("\\", "/")).stem


def match_file(wanted: str, names: Sequence[str]) -> str | None:
    """Return the file that a request means: by its whole name, its file name, or without the extension."""
    asked = wanted.strip().lower().partition(" [")[0]
    for form in (str, lambda name: PurePosixPath(name.replace("\\", "/")).name, stem):
        for name in names:
            if form(name).lower() == asked:
                return name
    return None


@dataclass(frozen=True)
class ComfyCatalog:
    """The lists that requests are checked against."""

    info: ObjectInfo = field(repr=False)
    names: SamplerNames
    checkpoints: list[str]
    loras: list[str]
    vaes: list[str]
    upscale_models: list[str]
    embeddings: list[str]

    @classmethod
    def read(cls, info: ObjectInfo, embeddings: list[str]) -> ComfyCatalog:
        """Return the catalog of an ``/object_info``; what it does not tell is empty."""

        def listed(node_class: str, name: str) -> list[str]:
            return texts(choices_of(input_spec(info, node_class, name)))

        return cls(
            info=info,
            names=SamplerNames(listed("KSampler", "sampler_name"), listed("KSampler", "scheduler")),
            checkpoints=listed("CheckpointLoaderSimple", "ckpt_name"),
            loras=listed("LoraLoader", "lora_name"),
            vaes=listed("VAELoader", "vae_name"),
            upscale_models=listed("UpscaleModelLoader", "model_name"),
            embeddings=embeddings,
        )

    def webui_lists(self, checkpoint: str) -> dict[str, Any]:
        """Return the WebUI's lists by their names; ``checkpoint``: the one that requests without a name get."""
        plain = ("None", *PLAIN_UPSCALERS)
        upscalers = [{"name": name, "model_name": None, "model_path": None, "scale": 4} for name in plain]
        for name in self.upscale_models:
            upscalers.append({"name": stem(name), "model_name": name, "model_path": None, "scale": 4})
        return {
            "samplers": self.names.list_samplers(),
            "schedulers": self.names.list_schedulers(),
            "upscalers": upscalers,
            # Clients name one in every request, also without a second pass: the name alone is no mistake.
            "latent-upscale-modes": [{"name": "Latent"}],
            "sd-models": [_model_row(name) for name in self.checkpoints],
            "sd-vae": [{"model_name": name, "filename": name} for name in self.vaes],
            "sd-modules": [{"model_name": name, "filename": name} for name in self.vaes],
            "hypernetworks": [],
            "face-restorers": [],
            "realesrgan-models": [],
            "prompt-styles": [],
            "embeddings": {"loaded": {name: {} for name in self.embeddings}, "skipped": {}},
            "loras": [{"name": stem(name), "alias": stem(name), "path": name, "metadata": {}} for name in self.loras],
            "scripts": {"txt2img": [], "img2img": []},
            "script-info": [],
            "options": {"sd_model_checkpoint": checkpoint, "sd_vae": "Automatic", "CLIP_stop_at_last_layers": 1},
        }


def _model_row(name: str) -> dict[str, Any]:
    return {"title": name, "model_name": stem(name), "hash": None, "sha256": None, "filename": name, "config": None}
