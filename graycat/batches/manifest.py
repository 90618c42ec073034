"""Builds the manifest's entries: what each image is, how it was made, and how to make it again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from graycat.batches.output import ManifestEntry
from graycat.batches.plan import Item
from graycat.bounds.stored import parse_json
from graycat.images.made import read_made
from graycat.images.replies import content_type

EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


def file_name(item: Item, data: bytes, seed: Any = None) -> str:
    """Return the name of an item's file. ``seed``: the one it was made with, which then stands in the name."""
    name = item.file
    if isinstance(seed, int) and seed != item.seed:
        renamed = re.sub(rf"(?<!\d){item.seed}(?!\d)", str(seed), name, count=1)
        if renamed != name:
            # Another item may have that name.
            name = f"{renamed}-{item.number}"
    return f"{name}.{EXTENSIONS.get(content_type(data), 'bin')}"


def build_entry(item: Item, data: bytes, record: Mapping[str, str], answer: bytes, engine: str) -> ManifestEntry:
    """Return the entry of an image, from the item, its task's record, the engine's answer and the picture's own text.

    ``seed``, ``sampler``, ``steps``, ``model``, ``width`` and ``height`` are what was made: by the picture, else by the
    answer's ``info``, else as asked for. ``warnings`` has what is unlike the request.

    ``record`` also holds ``task_id``, and in ``attempts`` the attempts of all of the item's tasks together.
    """
    info, warnings = _read_answer(answer)
    made = read_made(data)
    seed = made.seed
    if seed is None:
        seed = info.get("seed", item.seed)
    started, finished = int(record.get("claimed_ms") or 0), int(record.get("finished_ms") or 0)
    request = item.request
    return {
        "item": item.number,
        "prompt": item.prompt,
        "negative_prompt": str(info.get("negative_prompt", request.get("negative_prompt", ""))),
        "seed": seed,
        "file": file_name(item, data, seed),
        "sha256": sha256(data).hexdigest(),
        "bytes": len(data),
        "kind": item.kind,
        "engine": engine,
        "worker": record.get("worker", ""),
        "model": made.model or info.get("sd_model_name", ""),
        "model_hash": made.model_hash or info.get("sd_model_hash", ""),
        "width": made.width or info.get("width", request.get("width")),
        "height": made.height or info.get("height", request.get("height")),
        "steps": made.steps or info.get("steps", request.get("steps")),
        "sampler": made.sampler or info.get("sampler_name", request.get("sampler_name", "")),
        "scheduler": made.scheduler or request.get("scheduler", ""),
        "task_id": record["task_id"],
        "attempts": int(record["attempts"]),
        "submitted_ms": int(record.get("submitted_ms") or 0),
        "started_ms": started,
        "finished_ms": finished,
        "seconds": round(max(finished - started, 0) / 1000, 3),
        "request": request,
        "warnings": warnings,
    }


def _read_answer(answer: bytes) -> tuple[dict[str, Any], list[Any]]:
    """Return the ``info`` and the ``warnings`` in a task's answer; empty if it has none."""
    try:
        parsed = parse_json(answer)
        info = parse_json(parsed["info"])
        warnings = parsed.get("warnings", [])
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}, []
    if not isinstance(info, dict):
        info = {}
    if not isinstance(warnings, list):
        warnings = []
    return info, warnings
