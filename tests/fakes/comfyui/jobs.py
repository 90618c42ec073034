"""``/api/jobs``: one route that tells all states apart."""

from __future__ import annotations

from typing import Any

from tests.fakes.comfyui.prompts import Item, Prompts, without_secrets

FINISHED = {"execution_success": "completed", "execution_error": "failed", "execution_interrupted": "cancelled"}


def waiting(item: Item, status: str) -> dict[str, Any]:
    """Return a job that is not over."""
    number, prompt_id, prompt, extra_data, _ = item
    extra = without_secrets(extra_data)
    return {
        "id": prompt_id,
        "status": status,
        "priority": number,
        "create_time": extra.get("create_time"),
        "outputs_count": 0,
        "workflow": {"prompt": prompt, "extra_data": extra},
    }


def finished(prompt_id: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Return a job that is over."""
    number, _, prompt, extra, _ = entry["prompt"]
    messages = entry["status"]["messages"]
    kind, last = messages[-1]
    files = [
        {"nodeId": node_id, "mediaType": "images"} | image
        for node_id, output in entry["outputs"].items()
        for image in output.get("images", [])
    ]
    job = {
        "id": prompt_id,
        "status": FINISHED.get(kind, "failed"),
        "priority": number,
        "create_time": extra.get("create_time"),
        "execution_start_time": messages[0][1]["timestamp"],
        "execution_end_time": last["timestamp"],
        "outputs_count": len(files),
        "outputs": entry["outputs"],
        "execution_status": entry["status"],
        "workflow": {"prompt": prompt, "extra_data": extra},
    }
    if kind == "execution_error":
        job["execution_error"] = last
    if files:
        job["preview_output"] = files[-1]
    return job


def all_of(prompts: Prompts) -> list[dict[str, Any]]:
    """Return all jobs: what runs, what waits, what is over."""
    running = [waiting(prompts.running, "in_progress")] if prompts.running is not None else []
    pending = [waiting(item, "pending") for item in sorted(prompts.pending, key=lambda item: item[0])]
    return running + pending + [finished(prompt_id, entry) for prompt_id, entry in prompts.history.items()]


def find(prompts: Prompts, prompt_id: str) -> dict[str, Any] | None:
    """Return a job by its id."""
    return next((job for job in all_of(prompts) if job["id"] == prompt_id), None)
