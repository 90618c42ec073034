"""A task's events, live and from the past: server-sent events, or a JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from graycat.errors import RequestError
from graycat.events import CHUNK, PROGRESS, STARTED, TaskEvent
from graycat.records import TERMINAL_STATES
from graycat.web.api import shown
from graycat.web.api.following import Follower
from graycat.web.auth import token_auth
from graycat.web.tickets import ClientGone
from graycat.web.waiting import STREAM_HEADERS, office

bp = Blueprint("events", __name__)

#: How an event is written in each form, and what keeps a silent connection alive.
FORMATS = {"sse": ("text/event-stream", b": keep-alive\n\n"), "ndjson": ("application/x-ndjson", b"\n")}


@bp.get("/tasks/<task_id>/events")
@token_auth.login_required
def events(task_id: str) -> ResponseReturnValue:
    """Stream a task's events with their ids; ``Last-Event-ID`` goes on behind one, also after the task's end."""
    form = request.args.get("format", "sse")
    if form not in FORMATS:
        raise RequestError(f"'format' must be one of {', '.join(FORMATS)}")
    after = request.headers.get("Last-Event-ID") or request.args.get("after") or "0"
    if not _is_event_id(after):
        raise RequestError("'Last-Event-ID' must be the id of an event of this task")
    task_id, record = shown.find(task_id)
    with ExitStack() as undo:
        follower = undo.enter_context(Follower(task_id, after))
        kept = undo.pop_all()
    over = record["state"] in TERMINAL_STATES
    chunks = _written(follower, form, record.get("alias") or task_id, office().settings.keepalive_s, over=over)
    response = Response(chunks, content_type=FORMATS[form][0], headers=STREAM_HEADERS)
    response.call_on_close(kept.close)
    return response


def _is_event_id(text: str) -> bool:
    milliseconds, dash, number = text.partition("-")
    return milliseconds.isdecimal() and (not dash or number.isdecimal()) and len(text) < 40


def _written(follower: Follower, form: str, name: str, keepalive_s: float, *, over: bool) -> Iterator[bytes]:
    """Yield the events until the task's last. ``over``: all that will ever come is there already."""
    write = as_sse if form == "sse" else as_line
    try:
        while True:
            event = follower.next(0.001 if over else keepalive_s)
            if event is None and over:
                return
            yield FORMATS[form][1] if event is None else write(event, name)
            if event is not None and event.terminal:
                return
    except ClientGone:
        return


def as_sse(event: TaskEvent, name: str) -> bytes:
    """Return a server-sent event."""
    return f"id: {event.id}\nevent: {event.kind}\ndata: {json.dumps(data_of(event, name))}\n\n".encode()


def as_line(event: TaskEvent, name: str) -> bytes:
    """Return an event as one line of JSON."""
    return json.dumps({"id": event.id, "event": event.kind, "data": data_of(event, name)}).encode() + b"\n"


def data_of(event: TaskEvent, name: str) -> Any:
    """Return an event's data: what the engine sent for a chunk, else what it tells of the task ``name``."""
    if event.kind == STARTED:
        return {"attempt": int(event.data)}
    if event.kind == PROGRESS:
        progress = json.loads(event.data)
        return progress | ({"preview": f"/tasks/{name}/preview"} if progress.get("preview") else {"preview": None})
    if event.kind == CHUNK:
        return _chunk(event.data)
    return shown.outcome(name, [event])


def _chunk(raw: bytes) -> Any:
    """Return one of the engine's events: its JSON, or its text where it is none; with its name where it has one."""
    lines = raw.decode(errors="replace").rstrip("\n").split("\n")
    texts = [line.partition(":")[2].removeprefix(" ") for line in lines if line.startswith("data:")]
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("event:")]
    try:
        value = json.loads("\n".join(texts))
    except ValueError:
        value = "\n".join(texts)
    return {"event": names[0], "data": value} if names else value
