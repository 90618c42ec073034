"""A batch, and each line of its manifest made again by a request of its own: the same bytes, or the line lies."""

from __future__ import annotations

import base64
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.image_engines.hostile import RENDER_S, SMALL, TXT2IMG
from tests.support.processes import eventually
from tests.support.stack import Client

#: Seconds that a batch may take.
BATCH_S = 1800.0
SPEC: dict[str, Any] = {
    "defaults": SMALL,
    "matrix": {"prompt": ["a cat", "a dog, oil"], "sampler_name": ["Euler a", "DPM++ 2M Karras", "heun"]},
}


def run_batch(client: Client, home: Path, count: int) -> list[dict[str, Any]]:
    """Make a batch of ``count`` images (a multiple of six); return the lines of its manifest."""
    answer = client.post("/batches", SPEC | {"count": count // 6, "name": "rerun"})
    assert answer.status_code == 201, answer.text
    batch_id = answer.json()["id"]

    def look() -> dict[str, Any]:
        found: dict[str, Any] = client.get(f"/batches/{batch_id}").json()
        return found if found["state"] in ("succeeded", "failed", "cancelled") else {}

    batch = eventually(look, BATCH_S, 0.5)
    assert batch["state"] == "succeeded", batch
    manifest = home / "batches" / str(batch["folder"]) / "manifest.jsonl"
    return [json.loads(line) for line in manifest.read_text().splitlines()]


def make_again(client: Client, lines: list[dict[str, Any]]) -> list[str]:
    """Render each line's request with its recorded seed again; return what is unlike."""
    unlike = []
    for line in lines:
        answer = client.post(TXT2IMG, line["request"] | {"seed": line["seed"]}, timeout=RENDER_S)
        digests = [sha256(base64.b64decode(image)).hexdigest() for image in answer.json().get("images", [])]
        if digests != [line["sha256"]]:
            unlike.append(f"item {line['item']}, seed {line['seed']}, {line['sampler']}")
    return unlike
