"""graycat's own REST: tasks by their id."""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, current_app, g, jsonify
from flask.typing import ResponseReturnValue

from graycat.errors import TaskNotFound
from graycat.events import CHUNK, TaskEvent
from graycat.web.auth import token_auth

bp = Blueprint("tasks", __name__)

#: What a caller sees of a record.
SHOWN = ("kind", "state", "attempt", "queue", "submitted_ms", "started_ms", "finished_ms", "request_id")


@bp.get("/tasks/<task_id>")
@token_auth.login_required
def show(task_id: str) -> ResponseReturnValue:
    """Tell a task's state, and its answer while its events are kept."""
    records = current_app.extensions["graycat"].office.records
    record = records.get(task_id)
    # Somebody else's task is as unknown as none.
    if not record or record["owner"] != g.owner:
        raise TaskNotFound
    shown: dict[str, Any] = {"id": task_id} | {name: record[name] for name in SHOWN if name in record}
    for name, value in shown.items():
        if name.endswith("_ms") or name == "attempt":
            shown[name] = int(value)
    if "finished_ms" in record:
        shown |= _outcome(records.events(task_id))
    return jsonify(shown)


def _outcome(events: list[TaskEvent]) -> dict[str, Any]:
    """Return status and answer out of a finished task's events; nothing where they are gone."""
    if not events or not events[-1].data:
        return {}
    status, body = events[-1].answer()
    if body:
        return {"status": status, "result" if status < 400 else "error": json.loads(body)}
    # A stream's answer is its events.
    return {"status": status, "events": [event.data.decode() for event in events if event.kind == CHUNK]}
