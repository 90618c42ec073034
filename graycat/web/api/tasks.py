"""graycat's own REST: tasks by their id."""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, Response, current_app, g, jsonify, request
from flask.typing import ResponseReturnValue

from graycat.errors import TaskNotFound
from graycat.events import CHUNK, TaskEvent
from graycat.imagereplies import content_type
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


@bp.get("/tasks/<task_id>/images/<int:number>")
@token_auth.login_required
def image(task_id: str, number: int) -> ResponseReturnValue:
    """Return an image of a task, as the engine made it."""
    found = current_app.extensions["graycat"].artifacts.get(task_id, number)
    # Somebody else's image is as unknown as none.
    if found is None or found[0].owner != g.owner:
        raise TaskNotFound
    artifact, data = found
    response = Response(data, content_type=artifact.content_type)
    response.set_etag(artifact.sha256)
    response.headers["Cache-Control"] = "private, max-age=3600, immutable"
    return response.make_conditional(request)


@bp.get("/tasks/<task_id>/preview")
@token_auth.login_required
def preview(task_id: str) -> ResponseReturnValue:
    """Return the newest preview of a task that renders."""
    records = current_app.extensions["graycat"].office.records
    data = records.preview(task_id) if records.get(task_id).get("owner") == g.owner else None
    if data is None:
        raise TaskNotFound
    return Response(data, content_type=content_type(data), headers={"Cache-Control": "no-store"})


def _parsed(body: bytes) -> Any:
    """Return an answer's JSON; as text where an engine has failed in other words."""
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


def _outcome(events: list[TaskEvent]) -> dict[str, Any]:
    """Return status and answer out of a finished task's events; nothing where they are gone."""
    if not events or not events[-1].data:
        return {}
    status, body = events[-1].answer()
    if body:
        return {"status": status, "result" if status < 400 else "error": _parsed(body)}
    # A stream's answer is its events.
    return {"status": status, "events": [event.data.decode() for event in events if event.kind == CHUNK]}
