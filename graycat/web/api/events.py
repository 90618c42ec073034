"""A task's events, past and live: as server-sent events, or as one JSON object a line."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from graycat.bounds.stored import parse_json
from graycat.errors import RequestError
from graycat.queue.events import CHUNK, PROGRESS, RESTARTED, STARTED, TaskEvent
from graycat.queue.models import TERMINAL_STATES
from graycat.queue.positions import check_position
from graycat.web.api import task_views
from graycat.web.api.followers import TaskFollower
from graycat.web.api.foreign_tasks import find_readable_task
from graycat.web.auth import token_auth
from graycat.web.links import link
from graycat.web.services import services
from graycat.web.streaming.requests import ClientDisconnected
from graycat.web.streaming.responses import STREAM_HEADERS

bp = Blueprint("events", __name__)

#: The form of an event's id; the broker accepts no larger numbers.
EVENT_ID = re.compile(r"[0-9]{1,19}(-[0-9]{1,19})?")
#: Seconds to wait for the last event of a task whose record says that it has ended.
LAST_EVENT_TIMEOUT_S = 1.0
#: After how many seconds a browser's EventSource comes back, at least and at most: all at once would be a storm.
RECONNECT_S = (1.0, 3.0)
#: The kind of an event of this process itself, which ends the connection and not the task. It is no ``error``: in a
#: browser, an event without an id has that of the event before.
CLOSING = "closing"
#: Content type and keep-alive of each format.
FORMATS = {"sse": ("text/event-stream", b": keep-alive\n\n"), "ndjson": ("application/x-ndjson", b"\n")}


@bp.get("/tasks/<task_id>/events")
@token_auth.login_required
def events(task_id: str) -> ResponseReturnValue:
    """Stream a task's events with their ids. ``Last-Event-ID`` resumes after an event, also when the task has ended.

    Who would miss events gets 410, who goes on behind an event that the task does not have 400.
    """
    form = request.args.get("format", "sse")
    if form not in FORMATS:
        raise RequestError(f"'format' must be one of {', '.join(FORMATS)}")
    after = request.headers.get("Last-Event-ID") or request.args.get("after") or "0"
    if not EVENT_ID.fullmatch(after):
        raise RequestError("'Last-Event-ID' must be the id of an event of this task")

    task_id, record = find_readable_task(task_id)
    is_over = record["state"] in TERMINAL_STATES
    around = services().gateway.records.around(task_id, after)
    check_position(after, around, is_over=is_over, last_id=record.get("last_event", ""))
    with ExitStack() as on_error:
        follower = on_error.enter_context(TaskFollower(task_id, after))
        cleanup = on_error.pop_all()
    if is_over and follower.caught_up:
        cleanup.close()
        # An EventSource reconnects until it gets a 204.
        return Response(status=204)

    # Before the stream begins: outside of the request there is no application to ask for it.
    own = link(f"/tasks/{record.get('alias') or task_id}")
    chunks = _stream_events(follower, form, own, services().gateway.settings.keepalive_s, is_over=is_over)
    response = Response(chunks, content_type=FORMATS[form][0], headers=STREAM_HEADERS)
    response.call_on_close(cleanup.close)
    return response


def _stream_events(
    follower: TaskFollower, form: str, own: str, keepalive_s: float, *, is_over: bool
) -> Iterator[bytes]:
    """Yield the events until the last of a task with the link ``own``. ``is_over``: it has ended, so no more come."""
    encode = encode_sse if form == "sse" else encode_ndjson
    timeout_s = 0.001 if is_over else keepalive_s
    if form == "sse":
        # At once, so that a reader of a task that waits knows that it is connected.
        yield b"retry: %d\n\n" % (random.uniform(*RECONNECT_S) * 1000)  # noqa: S311 (nobody gains by guessing it)
    try:
        while True:
            event = follower.next_event(timeout_s)
            if event is not None:
                yield encode(event, own)
                if event.terminal:
                    return
                continue
            if is_over:
                return
            # No event: the task waits, has waited too long, or the broker has lost it.
            is_over = follower.task_is_over()
            timeout_s = LAST_EVENT_TIMEOUT_S if is_over else keepalive_s
            yield FORMATS[form][1]
    except ClientDisconnected:
        return


def encode_sse(event: TaskEvent, own: str) -> bytes:
    """Return a server-sent event."""
    # An event that this process made itself has no id. An empty id field would make a browser start again from the
    # first event.
    id_line = ""
    if event.id:
        id_line = f"id: {event.id}\n"
    return f"{id_line}event: {_kind(event)}\ndata: {json.dumps(event_data(event, own))}\n\n".encode()


def encode_ndjson(event: TaskEvent, own: str) -> bytes:
    """Return an event as one line of JSON."""
    return json.dumps({"id": event.id, "event": _kind(event), "data": event_data(event, own)}).encode() + b"\n"


def _kind(event: TaskEvent) -> str:
    return event.kind if event.id else CLOSING


def event_data(event: TaskEvent, own: str) -> Any:
    """Return an event's data: for a chunk what the engine sent, else what it says of the task with the link ``own``."""
    if event.kind in (STARTED, RESTARTED):
        return {"attempt": int(event.data)}
    if event.kind == PROGRESS:
        progress = parse_json(event.data)
        preview = None
        if progress.get("preview"):
            preview = f"{own}/preview"
        return progress | {"preview": preview}
    if event.kind == CHUNK:
        return _parse_chunk(event.data)
    if not event.terminal:
        # Of a kind that a worker of the next version knows.
        return {}
    fields = task_views.answer_fields(own, event)
    # The events of a stream were sent before.
    fields.pop("events", None)
    return fields


def _parse_chunk(raw: bytes) -> Any:
    """Return one server-sent event of the engine: its data as JSON, or as text if it is none.

    An event with a name is returned as an object of ``event`` and ``data``.
    """
    name = None
    texts = []
    for line in raw.decode(errors="replace").rstrip("\n").split("\n"):
        if line.startswith("data:"):
            texts.append(line.removeprefix("data:").removeprefix(" "))
        elif line.startswith("event:") and name is None:
            name = line.removeprefix("event:").strip()
    text = "\n".join(texts)
    try:
        data = parse_json(text)
    except ValueError:
        data = text
    if name is not None:
        return {"event": name, "data": data}
    return data
