"""A task's events, live and from the past: server-sent events, or a JSON object a line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from graycat.errors import RequestError
from graycat.queue.events import CHUNK, PROGRESS, STARTED, TaskEvent
from graycat.queue.models import TERMINAL_STATES
from graycat.web.api import task_views
from graycat.web.api.followers import Follower
from graycat.web.auth import token_auth
from graycat.web.streaming.requests import ClientGone
from graycat.web.streaming.responses import STREAM_HEADERS, gateway

bp = Blueprint("events", __name__)

#: What the id of an event looks like; the broker takes no larger numbers.
EVENT_ID = re.compile(r"[0-9]{1,19}(-[0-9]{1,19})?")
#: Seconds that the last event of a task gets to come which is found to be over.
LAST_S = 1.0
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
    if not EVENT_ID.fullmatch(after):
        raise RequestError("'Last-Event-ID' must be the id of an event of this task")
    task_id, record = task_views.find(task_id)
    with ExitStack() as undo:
        follower = undo.enter_context(Follower(task_id, after))
        kept = undo.pop_all()
    over = record["state"] in TERMINAL_STATES
    if over and follower.nothing_left:
        kept.close()
        # An EventSource asks for more until it is told so.
        return Response(status=204)
    chunks = _written(follower, form, record.get("alias") or task_id, gateway().settings.keepalive_s, over=over)
    response = Response(chunks, content_type=FORMATS[form][0], headers=STREAM_HEADERS)
    response.call_on_close(kept.close)
    return response


def _written(follower: Follower, form: str, name: str, keepalive_s: float, *, over: bool) -> Iterator[bytes]:
    """Yield the events until the task's last. ``over``: all that will ever come is there already."""
    write = as_sse if form == "sse" else as_line
    wait_s = 0.001 if over else keepalive_s
    try:
        while True:
            event = follower.next(wait_s)
            if event is None:
                if over:
                    return
                # Silent: it waits, or it has waited too long, or the broker has forgotten it.
                over = follower.task_is_over()
                wait_s = LAST_S if over else keepalive_s
            yield FORMATS[form][1] if event is None else write(event, name)
            if event is not None and event.terminal:
                return
    except ClientGone:
        return


def as_sse(event: TaskEvent, name: str) -> bytes:
    """Return a server-sent event."""
    # What this server says for itself has no place among the events: an empty id would have a browser begin anew.
    place = f"id: {event.id}\n" if event.id else ""
    return f"{place}event: {event.kind}\ndata: {json.dumps(data_of(event, name))}\n\n".encode()


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
    told = task_views.outcome(name, [event])
    # A stream's answer came before.
    return {key: value for key, value in told.items() if key != "events"}


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
