"""The WebUI's ``/progress`` for one caller.

A WebUI shows whatever image it renders. graycat shows only the caller's own image tasks.
"""

from __future__ import annotations

import sys
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from graycat.bounds.stored import parse_json
from graycat.queue.records import TaskRecords
from graycat.status.forecast import Wait

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


def _image_tasks(records: TaskRecords, owner: str) -> dict[str, dict[str, str]]:
    """Return the records of a caller's image tasks that have not ended, by their ids."""
    live = records.unfinished(owner)
    return {task_id: record for task_id, record in live.items() if record["kind"].startswith("sd.")}


def _running(tasks: dict[str, dict[str, str]]) -> list[str]:
    """Return the ids of the tasks that run now, the newest last."""
    running = [task_id for task_id, record in tasks.items() if record["state"] == "running"]
    return sorted(running, key=lambda task_id: int(tasks[task_id]["started_ms"] or 0))


def running_task_ids(records: TaskRecords, owner: str) -> list[str]:
    """Return the ids of a caller's image tasks that run now, the newest last."""
    return _running(_image_tasks(records, owner))


def _tell_wait(tasks: Mapping[str, Mapping[str, str]], ask: Ask | None) -> dict[str, Any]:
    """Return what is told of tasks that all wait: how many, and about the first of them when it is started."""
    text = f"Waiting: {len(tasks)} in the queue"
    if ask is None:
        return {"textinfo": text}
    # Within a queue a caller's own tasks are started in the order in which they were submitted.
    first_of: dict[str, str] = {}
    for task_id, record in tasks.items():
        first_of.setdefault(record["queue"], task_id)
    waits = [ask(task_id, tasks[task_id]) for task_id in first_of.values()]
    first = min(waits, key=lambda wait: wait.position or sys.maxsize)
    if first.eta_s is None:
        return {"textinfo": f"{text}; {first.reason}"}
    return {"textinfo": f"{text}, the next is number {first.position}", "eta_relative": first.eta_s}


#: Returns when a queued task will be started, by its id and its record.
Ask = Callable[[str, Mapping[str, str]], Wait]


def progress_view(records: TaskRecords, owner: str, *, with_image: bool, ask: Ask | None = None) -> dict[str, Any]:
    """Return the WebUI's progress object for a caller's newest running image task, or its queued ones if none runs.

    With ``ask`` the seconds that are left of a queued task are those until it is started.
    """
    tasks = _image_tasks(records, owner)
    if not tasks:
        return _IDLE
    running = _running(tasks)
    if not running:
        # Looks like a task that has just begun, so that a client that waits for "idle" goes on waiting.
        state = _IDLE["state"] | {"job_count": -1}
        told = _tell_wait(tasks, ask)
        return _IDLE | told | {"state": state}

    task_id = running[-1]
    record = tasks[task_id]
    progress: dict[str, Any] = {}
    if record["progress"]:
        progress = parse_json(record["progress"])
    preview = None
    if with_image and progress.get("preview"):
        preview = records.preview(task_id)
    started = datetime.fromtimestamp(int(record["started_ms"]) / 1000).astimezone()
    state = _IDLE["state"] | {
        "interrupted": bool(record["cancel"]),
        "stopping_generation": bool(record["cancel"]),
        "job": record["kind"].replace("sd.", "scripts_"),
        "job_count": progress.get("jobs") or -1,
        "job_timestamp": started.strftime("%Y%m%d%H%M%S"),
        "job_no": progress.get("job", 0),
        "sampling_step": progress.get("step", 0),
        "sampling_steps": progress.get("steps", 0),
    }
    view = _IDLE | {
        "progress": progress.get("progress", 0.01),
        "eta_relative": progress.get("eta_s", 0.0),
        "state": state,
    }
    if preview:
        view["current_image"] = b64encode(preview).decode()
    return view
