"""Builds the manifest's entries: what each image is, how it was made, and how to make it again."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from graycat.batches.output import ManifestEntry
from graycat.batches.plan import Item
from graycat.bounds.stored import parse_json
from graycat.images.replies import content_type

EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


def file_name(item: Item, data: bytes) -> str:
    """Return the name of an item's file."""
    return f"{item.file}.{EXTENSIONS.get(content_type(data), 'bin')}"


def build_entry(item: Item, data: bytes, record: Mapping[str, str], answer: bytes, engine: str) -> ManifestEntry:
    """Return the entry of an image, from the item, its task's record and the engine's answer.

    ``record`` also holds ``task_id``, and in ``attempts`` the attempts of all of the item's tasks together.
    """
    info = _read_info(answer)
    started, finished = int(record.get("claimed_ms") or 0), int(record.get("finished_ms") or 0)
    request = item.request
    return {
        "item": item.number,
        "prompt": item.prompt,
        "negative_prompt": str(info.get("negative_prompt", request.get("negative_prompt", ""))),
        "seed": info.get("seed", item.seed),
        "file": file_name(item, data),
        "sha256": sha256(data).hexdigest(),
        "bytes": len(data),
        "kind": item.kind,
        "engine": engine,
        "worker": record.get("worker", ""),
        "model": info.get("sd_model_name", ""),
        "model_hash": info.get("sd_model_hash", ""),
        "width": info.get("width", request.get("width")),
        "height": info.get("height", request.get("height")),
        "steps": info.get("steps", request.get("steps")),
        "sampler": info.get("sampler_name", request.get("sampler_name", "")),
        "task_id": record["task_id"],
        "attempts": int(record["attempts"]),
        "submitted_ms": int(record.get("submitted_ms") or 0),
        "started_ms": started,
        "finished_ms": finished,
        "seconds": round(max(finished - started, 0) / 1000, 3),
        "request": request,
    }


def _read_info(answer: bytes) -> dict[str, Any]:
    """Return the ``info`` in an engine's answer; empty if it has none."""
    try:
        info = parse_json(parse_json(answer)["info"])
    except (ValueError, TypeError, KeyError):
        return {}
    if not isinstance(info, dict):
        return {}
    return info
