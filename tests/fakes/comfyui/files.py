"""The server's folders: outputs, inputs, temporary files, and the lists of models."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from PIL.PngImagePlugin import PngInfo

KINDS = ("output", "input", "temp")
MODEL_FOLDERS = (
    *("checkpoints", "configs", "loras", "vae", "text_encoders", "diffusion_models", "clip_vision", "style_models"),
    *("embeddings", "diffusers", "vae_approx", "controlnet", "gligen", "upscale_models", "hypernetworks"),
    *("photomaker", "classifiers"),
)
ANNOTATION = re.compile(r"(.*) \[(output|input|temp)\]$")


class Folders:
    """Where files lie. Temporary ones are removed at the start."""

    def __init__(self, options: Namespace) -> None:
        base = options.base_directory
        if base is None:
            base = Path(tempfile.mkdtemp(prefix="fake-comfyui-"))
        self.paths = {kind: (getattr(options, f"{kind}_directory") or base / kind).resolve() for kind in KINDS}
        shutil.rmtree(self.paths["temp"], ignore_errors=True)
        for path in self.paths.values():
            path.mkdir(parents=True, exist_ok=True)
        self.keeps_metadata = not options.disable_metadata
        self._models = {
            "checkpoints": [f"model{number}.safetensors" for number in range(1, options.models + 1)],
            "loras": ["detail.safetensors", "folder/style.safetensors"],
            "upscale_models": ["4x.pth"],
            "vae": ["vae.safetensors"],
        }

    def models(self, kind: str) -> list[str]:
        """Return the files of a kind of models."""
        return self._models.get(kind, [])

    def names(self, kind: str) -> list[str]:
        """Return the files that lie in a folder itself."""
        return sorted(path.name for path in self.paths[kind].iterdir() if path.is_file())

    def annotated(self, name: str) -> Path:
        """Return an input file, or with ``name [output]`` one of another folder. As upstream, it may lie anywhere."""
        found = ANNOTATION.match(name)
        kind = found[2] if found else "input"
        return self.paths[kind] / (found[1] if found else name)

    def inside(self, kind: str, *parts: str) -> Path:
        """Return a path in a folder. Raises ValueError if it leads out of it, KeyError if there is no such folder."""
        base = self.paths[kind]
        path = Path(os.path.abspath(os.path.join(base, *parts)))
        if path != base and base not in path.parents:
            msg = f"outside of the {kind} folder"
            raise ValueError(msg)
        return path

    def save(self, kind: str, prefix: str, inputs: dict[str, Any], context: Any) -> list[dict[str, str]]:
        """Write a node's pictures as PNG; return where, as the wire tells it."""
        pictures = inputs["images"]
        prefix = expanded(prefix, *pictures[0].size)
        target = self.inside_to_write(kind, prefix)
        number = 1 + max((number_of(path.name, target.name) for path in target.parent.glob("*")), default=0)
        saved = []
        for picture in pictures:
            name = f"{target.name}_{number:05}_.png"
            picture.save(target.parent / name, "PNG", pnginfo=self.metadata(context), compress_level=4)
            folder = "" if target.parent == self.paths[kind] else str(target.parent.relative_to(self.paths[kind]))
            saved.append({"filename": name, "subfolder": folder, "type": kind})
            number += 1
        return saved

    def inside_to_write(self, kind: str, prefix: str) -> Path:
        """Return what file names begin with; the folder is made."""
        try:
            target = self.inside(kind, prefix)
        except ValueError:
            # The real message tells the server's paths too.
            msg = f"Saving image outside the output folder is not allowed.\n full_output_folder: {prefix}"
            raise OSError(msg) from None
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def metadata(self, context: Any) -> PngInfo | None:
        """Return the text chunks of a picture: the workflow, and what the caller gave for them."""
        if not self.keeps_metadata:
            return None
        info = PngInfo()
        info.add_text("prompt", json.dumps(context.prompt))
        for key, value in (context.extra_data.get("extra_pnginfo") or {}).items():
            info.add_text(key, json.dumps(value))
        return info


def expanded(prefix: str, width: int, height: int) -> str:
    """Fill in what a prefix may have; ``%date:...%`` is the UI's, and stays."""
    now = time.localtime()
    values: dict[str, Any] = {"width": width, "height": height, "year": now.tm_year}
    values |= {"month": f"{now.tm_mon:02}", "day": f"{now.tm_mday:02}"}
    values |= {"hour": f"{now.tm_hour:02}", "minute": f"{now.tm_min:02}", "second": f"{now.tm_sec:02}"}
    for key, value in values.items():
        prefix = prefix.replace(f"%{key}%", str(value))
    return prefix


def number_of(name: str, prefix: str) -> int:
    """Return the number of a file with that prefix; 0 if it has none."""
    found = re.match(re.escape(prefix) + r"_(\d+)_", name)
    return int(found[1]) if found else 0
