"""respond(): turn a request into a task, and the task's events into its response, whole or streamed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

from flask import Response, g, jsonify, request

from graycat.errors import GraycatError
from graycat.queue import ids
from graycat.queue.events import CHUNK, TaskEvent
from graycat.queue.kinds import STREAM, Kind
from graycat.web.limits import admitted
from graycat.web.services import services
from graycat.web.streaming.direct import DirectWriter, spout_of
from graycat.web.streaming.disconnect import watched
from graycat.web.streaming.formats import Dialect
from graycat.web.streaming.requests import ClientGone, PendingTask, Submission, TaskGateway

STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def gateway() -> TaskGateway:
    """Return the application's ticket office."""
    found: TaskGateway = services().gateway
    return found


def respond(kind: Kind, queue: str, mode: str, body: bytes, dialect: Dialect) -> Response:
    """Run a task for this request and return its answer; a client that hangs up cancels it.

    ``Prefer: respond-async`` (RFC 7240) asks for the task's address instead of waiting; then nothing cancels it.
    """
    submission = Submission(kind, queue, mode, body, g.owner, g.request_id)
    task_id = ids.new_task_id(kind.name)
    if "respond-async" in preferences():
        with admitted(task_id):
            gateway().enqueue(replace(submission, shown={}), task_id)
        return _accepted(task_id)
    with admitted(task_id):
        ticket = gateway().submit(submission, task_id)
    g.task_id, g.ticket = task_id, ticket
    return _streamed(ticket, dialect, gateway().settings.keepalive_s) if mode == STREAM else _whole(ticket)


def preferences() -> set[str]:
    """Return what the request prefers (RFC 7240)."""
    return {part.strip().lower() for value in request.headers.getlist("Prefer") for part in value.split(",")}


def _accepted(task_id: str) -> Response:
    g.task_id = task_id
    response = jsonify(id=task_id, state="queued", links={"self": f"/tasks/{task_id}"})
    response.status_code = 202
    response.headers["Location"] = f"/tasks/{task_id}"
    response.headers["Preference-Applied"] = "respond-async"
    return response


def _whole(ticket: PendingTask) -> Response:
    with ticket, watched(request.environ, ticket.hang_up):
        event = ticket.next()
        assert event is not None  # noqa: S101 (without a timeout there is an event)
        status, body = event.answer()
        return Response(body, status, content_type="application/json; charset=utf-8")


def _streamed(ticket: PendingTask, dialect: Dialect, keepalive_s: float) -> Response:
    """Return the stream. The status is the engine's own where it answers before ``keepalive_s``, else 200."""
    stack = ExitStack()
    with ExitStack() as undo:
        undo.push(stack)
        stack.enter_context(ticket)
        stack.enter_context(watched(request.environ, ticket.hang_up))
        first = ticket.next(keepalive_s)
        undo.pop_all()
    chunks = _chunks(ticket, first, dialect, keepalive_s, spout_of(request.environ, dialect.event))
    response = Response(chunks, content_type="text/event-stream", headers=STREAM_HEADERS)
    # Also where the client is gone before the first chunk, and so the generator never runs.
    response.call_on_close(stack.close)
    return response


def _chunks(
    ticket: PendingTask, event: TaskEvent | None, dialect: Dialect, keepalive_s: float, spout: DirectWriter | None
) -> Iterator[bytes]:
    """Yield one event a chunk, but for those that go by the spout: Unity parses each read of the body as one event."""
    half_sent = False
    try:
        while event is None or event.kind == CHUNK:
            if event is not None:
                yield dialect.event(event.data)
            elif not half_sent:
                yield dialect.keepalive
            try:
                event = ticket.next(keepalive_s, spout)
            finally:
                half_sent = spout is not None and spout.flush()
    except ClientGone:
        return
    except GraycatError as error:
        yield dialect.error(error)
