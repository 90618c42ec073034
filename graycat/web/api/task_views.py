"""Tasks as JSON for their owners."""

from __future__ import annotations

import time
from hashlib import sha256
from typing import Any

from flask import g

from graycat.bounds.stored import parse_json
from graycat.loops.unexpected import guarded
from graycat.metrics import web as metrics
from graycat.queue.errors import EventsGone, TaskGone, TaskNotFound
from graycat.queue.events import CHUNK, TaskEvent
from graycat.queue.failures import read_error
from graycat.queue.models import TERMINAL_STATES
from graycat.queue.records import TaskRecords
from graycat.web.api.task_requests import CHOSEN_ID, scoped_ids
from graycat.web.links import link
from graycat.web.services import services
from graycat.webhooks.webhook import Webhook

#: Fields of a record that are shown unchanged, and those that are numbers.
_TEXT_FIELDS = ("kind", "state", "queue", "priority", "worker", "request_id", "retry_of")
_NUMBER_FIELDS = ("attempt", "submitted_ms", "started_ms", "first_event_ms", "finished_ms", "size")
#: The error of a task that is longer remembered than its answer.
ANSWER_GONE = "the task failed, and why is no longer kept; submit it again"
#: Fields that hold JSON.
_JSON_FIELDS = ("metadata", "progress")

Record = dict[str, str]


def find_task(task_id: str) -> tuple[str, Record]:
    """Return id and record of the caller's task, by its own id or by the one that the caller chose.

    Raises TaskNotFound if there is none or it belongs to another API token, TaskGone if its record was deleted after
    it ended.
    """
    records = services().gateway.records
    candidates = [task_id]
    if CHOSEN_ID.fullmatch(task_id):
        candidates += scoped_ids(g.owner, task_id).values()
    for candidate in candidates:
        record = read_record(records, candidate)
        if record.get("owner") == g.owner:
            return candidate, record
    if any(records.was_listed(g.owner, candidate) for candidate in candidates):
        raise TaskGone
    raise TaskNotFound


def read_record(records: TaskRecords, task_id: str) -> Record:
    """Return a task's record. A task past its queue deadline is expired here, so that no worker is needed for that."""
    record = records.get(task_id)
    if is_overdue(record) and records.expire(task_id):
        metrics.count_task(record["kind"], "expired")
        return records.get(task_id)
    return record


def is_overdue(record: Record) -> bool:
    """Return whether a task seems to be past its queue deadline. The broker's clock decides whether it really is."""
    return record.get("state") == "queued" and time.time() * 1000 > int(record.get("queue_deadline_ms") or 0)


def task_view(task_id: str, record: Record, *, whole: bool = True) -> dict[str, Any]:
    """Return a task as JSON. ``whole``: with its answer, or its position in the queue and its estimated wait."""
    name = record.get("alias") or task_id
    view: dict[str, Any] = {"id": name, **_record_fields(record)}
    if record.get("worker"):
        view.update(_engine_field(record["worker"]))
    view["timings"] = _timings(record)
    view["links"] = links(name, record)
    if not whole:
        return view

    if record.get("hook"):
        view.update(_webhook_field(task_id))
    if record["state"] == "queued":
        view.update(_queue_fields(task_id, record))
    elif record["state"] in TERMINAL_STATES:
        view.update(_stored_answer(view["links"]["self"], task_id))
        if record["state"] in ("failed", "expired") and "error" not in view:
            view["error"] = {"code": view.get("status", 500), "type": "answer_gone", "message": ANSWER_GONE}
    return view


def _webhook_field(task_id: str) -> dict[str, Any]:
    """Return a task's webhook with its deliveries; empty if it has none."""
    hook = services().hooks.read(task_id)
    if not hook:
        return {}
    deliveries = services().deliveries.summarize(task_id)
    return {"webhook": Webhook.from_json(hook).to_view() | {"deliveries": deliveries}}


def _record_fields(record: Record) -> dict[str, Any]:
    """Return the fields of a record that are shown, without those that are not set."""
    fields: dict[str, Any] = {name: record[name] for name in _TEXT_FIELDS if record.get(name)}
    if "kind" in fields:
        fields["kind"] = kind_of(record)
    fields.update({name: int(record[name]) for name in _NUMBER_FIELDS if record.get(name)})
    for name in _JSON_FIELDS:
        # Its worker may have written anything.
        with guarded("records"):
            if record.get(name):
                fields[name] = parse_json(record[name])
    return fields


def kind_of(record: Record) -> str:
    """Return a task's kind as callers name it: that of an operator's workflow has its name in it."""
    kind = record.get("kind", "")
    if record.get("workflow"):
        return f"{kind}/{record['workflow']}"
    return kind


def _engine_field(worker_name: str) -> dict[str, str]:
    """Return the engine of a worker; empty if the worker is gone."""
    for worker in services().workers():
        if worker.name == worker_name:
            return {"engine": worker.engine}
    return {}


def etag(record: Record) -> str:
    """Return a task's entity tag (RFC 9110). It changes with what pollers wait for: state, attempt and progress."""
    state = record.get("state", "")
    progress = record.get("progress", "")
    suffix = ""
    if progress and state == "running":
        suffix = "-" + sha256(progress.encode()).hexdigest()[:8]
    return f'"{state}-{record.get("attempt", "")}{suffix}"'


def retry_after_s(record: Record) -> int:
    """Return the seconds after which a client should poll again; 0 if the task has ended."""
    if record["state"] in TERMINAL_STATES:
        return 0
    return 1


def links(name: str, record: Record) -> dict[str, str]:
    """Return the links to a task and to its other routes."""
    own = link(f"/tasks/{name}")
    found = {"self": own, "events": f"{own}/events"}
    if record["state"] not in TERMINAL_STATES:
        found["cancel"] = f"{own}/cancel"
    elif record["state"] != "succeeded":
        found["retry"] = f"{own}/retry"
    return found


def _timings(record: Record) -> dict[str, int]:
    """Return how long a task waited and ran, in ms."""
    timings: dict[str, int] = {}
    if record.get("started_ms"):
        started_ms = int(record["started_ms"])
        timings["queued_ms"] = started_ms - int(record["submitted_ms"])
        if record.get("finished_ms"):
            timings["run_ms"] = int(record["finished_ms"]) - started_ms
    return timings


def _queue_fields(task_id: str, record: Record) -> dict[str, Any]:
    """Return a task's position among all that is started before it, and the estimated seconds until it is started.

    Without an estimate ``eta_reason`` says why.
    """
    wait = services().forecaster.wait(task_id, record, services().workers())
    fields: dict[str, Any] = {"queue_position": wait.position, "eta_s": wait.eta_s}
    if wait.eta_s is None:
        fields["eta_reason"] = wait.reason
    return fields


def _stored_answer(own: str, task_id: str) -> dict[str, Any]:
    """Return HTTP status and answer of a finished task with the link ``own``; empty if its events are gone."""
    records = services().gateway.records
    last = records.last_event(task_id)
    if last is None or not last.terminal:
        return {}
    fields = answer_fields(own, last)
    if "events" in fields:
        try:
            for page in records.event_pages(task_id):
                fields["events"] += [event.data.decode(errors="replace") for event in page if event.kind == CHUNK]
        except EventsGone:
            return {}
    return fields


def answer_fields(own: str, last: TaskEvent) -> dict[str, Any]:
    """Return HTTP status and answer out of a finished task's last event.

    The answer of a stream is its events: its list of them is empty here. ``own``: the link to the task. Streams call
    this outside of their request.
    """
    if not last.data:
        return {"status": 499} if last.kind == "cancelled" else {}

    status, body = last.answer()
    if status >= 400:
        return {"status": status, "error": read_error(status, body)}
    if not body:
        return {"status": status, "events": []}
    value = _parse_body(body)
    if last.kind == "cancelled":
        return {"status": status, "partial_result": link_images(own, value)}
    return {"status": status, "result": link_images(own, value)}


def _parse_body(body: bytes) -> Any:
    """Return an answer's JSON; or its text, if an engine has sent something else."""
    try:
        return parse_json(body)
    except ValueError:
        return body.decode(errors="replace")


def link_images(own: str, value: Any) -> Any:
    """Return an answer with links to the task's images in place of their numbers. ``own``: the link to the task."""
    if not isinstance(value, dict):
        return value

    def linked_image(image: Any) -> Any:
        if isinstance(image, dict) and "artifact" in image:
            return {"url": f"{own}/images/{image['artifact']}"}
        return image

    linked = dict(value)
    if isinstance(value.get("images"), list):
        linked["images"] = [linked_image(image) for image in value["images"]]
    if "image" in value:
        linked["image"] = linked_image(value["image"])
    return linked
