"""Tasks as their owners see them."""

from __future__ import annotations

import json
import time
from hashlib import sha256
from typing import Any

from flask import g

from graycat.fleet.workers import serving
from graycat.metrics import web as metrics
from graycat.queue.errors import TaskGone, TaskNotFound
from graycat.queue.events import CHUNK, TaskEvent
from graycat.queue.models import TERMINAL_STATES
from graycat.queue.names import base_queue
from graycat.queue.records import TaskRecords
from graycat.web.api.task_requests import CHOSEN_ID, scoped_ids
from graycat.web.services import services
from graycat.webhooks.webhook import Webhook

#: Fields of a record that are shown as they are, and those that are numbers.
_TEXTS = ("kind", "state", "queue", "priority", "worker", "request_id", "retry_of")
_NUMBERS = ("attempt", "submitted_ms", "started_ms", "first_event_ms", "finished_ms", "size")
#: Fields in JSON.
_OBJECTS = ("metadata", "progress")

Record = dict[str, str]


def find(task_id: str) -> tuple[str, Record]:
    """Return id and record of the caller's task, by its id or the one that the caller chose.

    Raises TaskNotFound for somebody else's as for none, TaskGone for one that is over and forgotten.
    """
    records = services().gateway.records
    candidates = [task_id, *(scoped_ids(g.owner, task_id).values() if CHOSEN_ID.fullmatch(task_id) else ())]
    for candidate in candidates:
        record = current(records, candidate)
        if record.get("owner") == g.owner:
            return candidate, record
    if any(records.was_listed(g.owner, candidate) for candidate in candidates):
        raise TaskGone
    raise TaskNotFound


def current(records: TaskRecords, task_id: str) -> Record:
    """Return a task's record; one that has waited past its deadline ends here, whether or not a worker is there."""
    record = records.get(task_id)
    if not (overdue(record) and records.expire(task_id)):
        return record
    metrics.ended(record["kind"], "expired")
    return records.get(task_id)


def overdue(record: Record) -> bool:
    """Tell whether a task seems to have waited too long; the broker's clock decides."""
    return record.get("state") == "queued" and time.time() * 1000 > int(record.get("queue_deadline_ms") or 0)


def shown(task_id: str, record: Record, *, whole: bool = True) -> dict[str, Any]:
    """Return a task as JSON; ``whole``: with its answer, its place in the queue, and how long it may still take."""
    name = record.get("alias") or task_id
    view: dict[str, Any] = {"id": name}
    view |= {field: record[field] for field in _TEXTS if record.get(field)}
    view |= {field: int(record[field]) for field in _NUMBERS if record.get(field)}
    view |= {field: json.loads(record[field]) for field in _OBJECTS if record.get(field)}
    if record.get("worker"):
        engines = {worker.name: worker.engine for worker in services().workers()}
        view |= {"engine": engines[record["worker"]]} if record["worker"] in engines else {}
    view["timings"] = _timings(record)
    view["links"] = links(name, record)
    if not whole:
        return view
    if record.get("webhook"):
        told = services().deliveries.summary(task_id)
        view["webhook"] = Webhook.from_record(record["webhook"]).shown() | {"deliveries": told}
    if record["state"] == "queued":
        view |= _waiting(task_id, record)
    elif record["state"] in TERMINAL_STATES:
        view |= outcome(name, services().gateway.records.events(task_id))
    return view


def etag(record: Record) -> str:
    """Return the tag of what a poller waits for: it changes with the state, the attempt and the progress."""
    return tag(record.get("state", ""), record.get("attempt", ""), record.get("progress", ""))


def tag(state: str, attempt: str, progress: str) -> str:
    """Return an entity tag (RFC 9110) of a task's state."""
    suffix = "-" + sha256(progress.encode()).hexdigest()[:8] if progress and state == "running" else ""
    return f'"{state}-{attempt}{suffix}"'


def retry_after_s(record: Record) -> int:
    """Return the seconds after which a poller should look again."""
    return 0 if record["state"] in TERMINAL_STATES else 1


def links(name: str, record: Record) -> dict[str, str]:
    """Return where a task's other sides are."""
    found = {"self": f"/tasks/{name}", "events": f"/tasks/{name}/events"}
    if record["state"] not in TERMINAL_STATES:
        found["cancel"] = f"/tasks/{name}/cancel"
    elif record["state"] != "succeeded":
        found["retry"] = f"/tasks/{name}/retry"
    return found


def _timings(record: Record) -> dict[str, int]:
    """Return how long a task waited and ran, in ms."""
    at = {name: int(record[f"{name}_ms"]) for name in ("submitted", "started", "finished") if record.get(f"{name}_ms")}
    timings = {}
    if "started" in at:
        timings["queued_ms"] = at["started"] - at["submitted"]
        if "finished" in at:
            timings["run_ms"] = at["finished"] - at["started"]
    return timings


def _waiting(task_id: str, record: Record) -> dict[str, Any]:
    """Return the place in the queue, and the seconds until a worker is likely to take it."""
    shared = services()
    records = shared.gateway.records
    place = records.place(task_id)
    slots = sum(worker.slots for worker in serving(shared.workers(), base_queue(record["queue"])))
    mean_ms = records.mean_ms(record["kind"])
    eta_s = None
    if place and slots and mean_ms:
        eta_s = round(-(-place // slots) * mean_ms / 1000, 1)
    return {"queue_position": place, "eta_s": eta_s}


def outcome(name: str, events: list[TaskEvent]) -> dict[str, Any]:
    """Return HTTP status and answer out of a finished task's events; nothing where they are gone."""
    if not events or not events[-1].terminal:
        return {}
    last = events[-1]
    if not last.data:
        return {"status": 499} if last.kind == "cancelled" else {}
    status, body = last.answer()
    if body:
        field = "error" if status >= 400 else "partial_result" if last.kind == "cancelled" else "result"
        value = _parsed(body)
        return {"status": status, field: _inner(value) if field == "error" else located(name, value)}
    # A stream's answer is its events.
    return {"status": status, "events": [event.data.decode() for event in events if event.kind == CHUNK]}


def _parsed(body: bytes) -> Any:
    """Return an answer's JSON; as text where an engine has failed in other words."""
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


def _inner(value: Any) -> Any:
    """Return what an error says, out of the object that llama.cpp and graycat put around it."""
    inner = value.get("error") if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else value


def located(name: str, value: Any) -> Any:
    """Return an answer with the addresses of its images in the place of their numbers."""
    if not isinstance(value, dict):
        return value

    def address(image: Any) -> Any:
        if isinstance(image, dict) and "artifact" in image:
            return {"url": f"/tasks/{name}/images/{image['artifact']}"}
        return image

    found = dict(value)
    if isinstance(value.get("images"), list):
        found["images"] = [address(image) for image in value["images"]]
    if "image" in value:
        found["image"] = address(value["image"])
    return found
