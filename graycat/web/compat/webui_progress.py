"""``/progress`` of one caller: an upstream WebUI tells of whatever runs, here it is the caller's own render."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import datetime
from typing import Any

from graycat.queue.records import TaskRecords

_IDLE: dict[str, Any] = {
    "progress": 0.0,
    "eta_relative": 0.0,
    "state": {
        "skipped": False,
        "interrupted": False,
        "stopping_generation": False,
        "job": "",
        "job_count": 0,
        "job_timestamp": "0",
        "job_no": 0,
        "sampling_step": 0,
        "sampling_steps": 0,
    },
    "current_image": None,
    "textinfo": None,
}


def running_renders(records: TaskRecords, owner: str) -> list[str]:
    """Return the ids of a caller's image tasks that run now, the newest last."""
    live = records.live(owner)
    running = [name for name, r in live.items() if r["kind"].startswith("sd.") and r["state"] == "running"]
    return sorted(running, key=lambda name: int(live[name]["started_ms"] or 0))


def progress_of(records: TaskRecords, owner: str, *, with_image: bool) -> dict[str, Any]:
    """Return the WebUI's progress object for the newest render of a caller that runs, or waits where none does."""
    live = {name: r for name, r in records.live(owner).items() if r["kind"].startswith("sd.")}
    if not live:
        return _IDLE
    running = [name for name, record in live.items() if record["state"] == "running"]
    if not running:
        # As just begun, so that whoever waits for idle goes on waiting.
        state = _IDLE["state"] | {"job_count": -1}
        return _IDLE | {"state": state, "textinfo": f"Waiting: {len(live)} in the queue"}
    task_id = max(running, key=lambda name: int(live[name]["started_ms"] or 0))
    record = live[task_id]
    seen = json.loads(record["progress"]) if record["progress"] else {}
    preview = records.preview(task_id) if with_image and seen.get("preview") else None
    started = datetime.fromtimestamp(int(record["started_ms"]) / 1000).astimezone()
    state = _IDLE["state"] | {
        "interrupted": bool(record["cancel"]),
        "stopping_generation": bool(record["cancel"]),
        "job": record["kind"].replace("sd.", "scripts_"),
        "job_count": seen.get("jobs") or -1,
        "job_timestamp": started.strftime("%Y%m%d%H%M%S"),
        "job_no": seen.get("job", 0),
        "sampling_step": seen.get("step", 0),
        "sampling_steps": seen.get("steps", 0),
    }
    return {
        "progress": seen.get("progress", 0.01),
        "eta_relative": seen.get("eta_s", 0.0),
        "state": state,
        "current_image": b64encode(preview).decode() if preview else None,
        "textinfo": None,
    }
