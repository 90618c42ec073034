"""respond(): run the task of a request, and turn its events into the response, whole or streamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

from flask import Response, g, jsonify, request

from graycat.errors import GraycatError
from graycat.queue import ids
from graycat.queue.events import CHUNK, TaskEvent
from graycat.queue.kinds import STREAM, Kind
from graycat.web.limits import enforce_limits
from graycat.web.links import link
from graycat.web.services import services
from graycat.web.streaming.direct import DirectWriter, direct_writer_for
from graycat.web.streaming.disconnect import on_disconnect
from graycat.web.streaming.formats import StreamFormat
from graycat.web.streaming.requests import ClientDisconnected, PendingTask, Submission

STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def respond(kind: Kind, queue: str, mode: str, body: bytes, stream_format: StreamFormat) -> Response:
    """Run a task for this request and return its answer. If the client disconnects, the task is cancelled.

    ``Prefer: respond-async`` (RFC 7240) asks for the task's address instead; such a task goes on without its client.
    """
    if is_async():
        return accept(kind, queue, mode, body)
    pending = submit(kind, queue, mode, body)
    if mode == STREAM:
        return _streamed_response(pending, stream_format, services().settings.keepalive_s)
    return _whole_response(pending)


def is_async() -> bool:
    """Return whether the client does not wait for the answer."""
    return "respond-async" in preferences()


def submit(kind: Kind, queue: str, mode: str, body: bytes) -> PendingTask:
    """Submit the task of a request that waits for it. Raises what the limits and the queue raise."""
    services().require_engine(kind.family)
    submission = Submission(kind, queue, mode, body, g.owner, g.request_id, token=g.token)
    task_id = ids.new_task_id(kind.name)
    with enforce_limits(task_id):
        pending = services().gateway.submit(submission, task_id)
    g.task_id = task_id
    g.pending_task = pending
    return pending


def accept(kind: Kind, queue: str, mode: str, body: bytes) -> Response:
    """Submit the task of a request that does not wait for it; return the task's address."""
    services().require_engine(kind.family)
    submission = Submission(kind, queue, mode, body, g.owner, g.request_id, shown={}, token=g.token)
    task_id = ids.new_task_id(kind.name)
    with enforce_limits(task_id):
        services().gateway.enqueue(submission, task_id)
    return _accepted_response(task_id)


def preferences() -> set[str]:
    """Return the parts of the request's ``Prefer`` headers (RFC 7240)."""
    found: set[str] = set()
    for value in request.headers.getlist("Prefer"):
        found.update(part.strip().lower() for part in value.split(","))
    return found


def _accepted_response(task_id: str) -> Response:
    g.task_id = task_id
    response = jsonify(id=task_id, state="queued", links={"self": link(f"/tasks/{task_id}")})
    response.status_code = 202
    response.headers["Location"] = link(f"/tasks/{task_id}")
    response.headers["Preference-Applied"] = "respond-async"
    return response


def _whole_response(pending: PendingTask) -> Response:
    with pending, on_disconnect(request.environ, pending.client_disconnected):
        event = pending.next_event()
        assert event is not None  # noqa: S101 (without a timeout there is an event)
        status, body = event.answer()
        return Response(body, status, content_type="application/json; charset=utf-8")


def _streamed_response(pending: PendingTask, stream_format: StreamFormat, keepalive_s: float) -> Response:
    """Return the stream. The status is the engine's own if it answers within ``keepalive_s``, else 200."""

    def encode(first: TaskEvent | None) -> Iterator[bytes]:
        writer = direct_writer_for(request.environ, stream_format.encode_event)
        return _stream_chunks(pending, first, stream_format, keepalive_s, writer)

    return stream_events(pending, encode, keepalive_s)


def stream_events(
    pending: PendingTask, encode: Callable[[TaskEvent | None], Iterator[bytes]], keepalive_s: float
) -> Response:
    """Return a stream of events. ``encode`` writes them, given the first one; it is called in the request.

    The first is None if none came within ``keepalive_s``. If the task fails before, its error is raised.
    """
    cleanup = ExitStack()
    with ExitStack() as on_error:
        on_error.push(cleanup)
        cleanup.enter_context(pending)
        cleanup.enter_context(on_disconnect(request.environ, pending.client_disconnected))
        first = pending.next_event(keepalive_s)
        chunks = encode(first)
        on_error.pop_all()

    response = Response(chunks, content_type="text/event-stream", headers=STREAM_HEADERS)
    # Not in the generator: it never runs if the client is gone before the first chunk.
    response.call_on_close(cleanup.close)
    return response


def _stream_chunks(
    pending: PendingTask,
    event: TaskEvent | None,
    stream_format: StreamFormat,
    keepalive_s: float,
    writer: DirectWriter | None,
) -> Iterator[bytes]:
    """Yield one event a chunk, except for those that the hub writes with ``writer``.

    One event a chunk, because Unity's client parses each read of the body as one event.
    """
    just_flushed = False
    try:
        while event is None or event.kind == CHUNK:
            if event is not None:
                yield stream_format.encode_event(event.data)
            elif not just_flushed:
                yield stream_format.keepalive
            try:
                event = pending.next_event(keepalive_s, writer)
            finally:
                # Also before an error: it must not be written into the middle of a chunk.
                just_flushed = writer is not None and writer.flush()
    except ClientDisconnected:
        return
    except GraycatError as error:
        yield stream_format.encode_error(error)
