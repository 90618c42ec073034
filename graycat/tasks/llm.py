"""Text tasks. One class serves every kind, because the engine's routes differ only in their path."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from functools import reduce
from http import HTTPStatus
from http.client import HTTPResponse
from typing import Any

from celery import shared_task

from graycat.bounds.body import count_answers
from graycat.bounds.stored import parse_json
from graycat.engines.base import Health
from graycat.engines.client import Call
from graycat.engines.sse import EventStream
from graycat.errors import EngineError, EngineLost, EngineProtocolError, GraycatError
from graycat.metrics import worker
from graycat.queue.events import MAX_ANSWER_BYTES
from graycat.queue.kinds import GATHER, LIVE, LLM_KINDS, PLAIN, STREAM, Kind
from graycat.queue.models import Attempt
from graycat.queue.topology import LLM
from graycat.redaction.answers import hide_in_reply
from graycat.tasks.asked_names import check_model
from graycat.tasks.base import EngineTask
from graycat.tasks.llm_answers import NotRebuildableError
from graycat.tasks.llm_events import StreamCheck, check_whole, refusal
from graycat.tasks.llm_gather import as_stream, gather
from graycat.tasks.llm_progress import ask_for_progress
from graycat.tasks.llm_resume import ContinuedStream, continue_attempt, is_whole
from graycat.tasks.llm_usage import note_chunks, note_stream, note_whole
from graycat.worker.runtime import EngineRuntime
from graycat.worker.stream_relay import RelayedStream

logger = logging.getLogger(__name__)

#: Seconds before each look whether an engine still runs whose stream ended too early: one that stops may answer once.
END_LOOKS_S = (0.0, 1.0)


class LlmTask(EngineTask):
    """A call of one route of the engine, in the mode that the record names."""

    abstract = True

    def resume(self, attempt: Attempt, chunks: Sequence[bytes]) -> Attempt | None:
        """Return an attempt that continues after the tokens of earlier attempts; None if the engine cannot do that."""
        return continue_attempt(attempt, chunks)

    def whole_answer(
        self, runtime: EngineRuntime, attempt: Attempt, chunks: Sequence[bytes]
    ) -> tuple[int, bytes] | None:
        """Return the answer of a stream that was published to its last event; None if more were to come."""
        if not is_whole(attempt, chunks):
            return None
        note_chunks(attempt, chunks)
        if attempt.mode == STREAM:
            return 200, b""
        try:
            return 200, _gather(runtime, attempt, chunks)
        except (EngineError, EngineLost, EngineProtocolError, NotRebuildableError):
            return None

    def settle(self, runtime: EngineRuntime, attempt: Attempt) -> None:
        """Return when the engine's slot is free, or after a deadline: the next caller is not to wait behind a ghost."""
        if LLM_KINDS[attempt.kind].queue == LLM and not runtime.engine_slots.wait_until_free(
            lambda: _count_slots(runtime)
        ):
            logger.warning("slot still busy after its call was stopped", extra={"task_id": attempt.task_id})

    def perform(self, runtime: EngineRuntime, attempt: Attempt, call: Call) -> tuple[int, bytes]:
        """Call the engine, and return its answer: whole, gathered from its stream, or empty if it was streamed."""
        kind = LLM_KINDS[attempt.kind]
        check_model(runtime, attempt)
        if attempt.mode == PLAIN:
            streamed = as_stream(attempt)
            if streamed is not None:
                with contextlib.suppress(NotRebuildableError):
                    return self.perform(runtime, streamed, call)
            status, body = _fetch(runtime, kind, attempt, call)
            _count_whole(attempt, body)
            return status, _hide(runtime, kind, body)

        check = StreamCheck(kind, attempt.body)
        try:
            stream = _stream(runtime, kind, attempt, call, check)
        except NoStream as answer:
            _count_whole(attempt, answer.body)
            return answer.status, _hide(runtime, kind, answer.body)
        # A caller that selects the fields may have left out the one that shows the end.
        shows_end = b'"response_fields"' not in attempt.body
        if not stream.count or (shows_end and not check.is_whole):
            raise _ended_early(runtime, call)
        if attempt.mode in (GATHER, LIVE):
            return 200, _gather(runtime, attempt, [*attempt.earlier, *stream.events])
        return 200, b""


class NoStream(Exception):
    """Raised if an engine answers whole although it was asked to stream: it does not stream this route."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__("not a stream")
        self.status, self.body = status, body


def _ended_early(runtime: EngineRuntime, call: Call) -> GraycatError:
    """Return the error of a stream that has ended without its last event.

    An engine that stops ends its streams so, and then another attempt makes sense. One that goes on running would do
    the same again.
    """
    for pause_s in END_LOOKS_S:
        time.sleep(pause_s)
        if call.stopped is not None or runtime.engine.health() is not Health.HEALTHY:
            return EngineLost()
    return EngineProtocolError("its stream ended without its last event")


def _count_slots(runtime: EngineRuntime) -> int:
    """Return how many slots the attempts that run may take."""
    slots = 0
    for running in runtime.running.all():
        slots += 1
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            slots += count_answers(parse_json(running.attempt.body)) - 1
    return slots


def _count_whole(attempt: Attempt, body: bytes) -> None:
    """Count the tokens that a whole answer tells."""
    tokens = note_whole(attempt, body)
    if tokens is not None:
        worker.TOKENS.labels(attempt.kind).inc(tokens)


def _fetch(runtime: EngineRuntime, kind: Kind, attempt: Attempt, call: Call) -> tuple[int, bytes]:
    """Return status and body of the engine's answer. Raises EngineError, EngineLost."""
    path, sent = _address(runtime, kind, attempt.body, call)
    body = None
    if kind.method == "POST":
        body = sent
    with runtime.engine.client.open(kind.method, path, body, call=call, timeout_s=None) as response:
        return response.status, _read_whole(response)


def _gather(runtime: EngineRuntime, attempt: Attempt, events: Sequence[bytes]) -> bytes:
    """Return the whole answer of a stream. Raises what ``gather`` raises."""
    info = runtime.supervisor.info
    default_model = ""
    if info is not None and info.router is not None:
        default_model = info.router.default
    return gather(attempt, events, runtime.engine.client, default_model)


def _address(runtime: EngineRuntime, kind: Kind, body: bytes, call: Call) -> tuple[str, bytes]:
    """Return path and body of a call as the engine takes them. Raises EngineError, EngineLost."""
    info = runtime.supervisor.info
    if info is None or info.router is None:
        return kind.path, body
    return info.router.address(kind.method, kind.path, body, call)


def _read_whole(response: HTTPResponse) -> bytes:
    """Return the body of an answer that is whole. Raises EngineError, EngineProtocolError."""
    reply = response.read(MAX_ANSWER_BYTES + 1)
    if len(reply) > MAX_ANSWER_BYTES:
        raise EngineProtocolError(f"it has more than {MAX_ANSWER_BYTES} bytes")
    if response.status >= HTTPStatus.BAD_REQUEST:
        raise refusal(response.status, reply)
    if response.status != HTTPStatus.OK:
        raise EngineProtocolError(f"status {response.status}")
    check_whole(reply)
    return reply


def _stream(runtime: EngineRuntime, kind: Kind, attempt: Attempt, call: Call, check: StreamCheck) -> RelayedStream:
    """Relay the engine's events, and return the stream at its end. Raises EngineError, EngineLost, EngineProtocolError.

    Raises also what ends a stream early, StaleAttempt and BrokerUnavailable, and NoStream for a caller that waits for
    the whole.
    """
    started_at = time.monotonic()
    edit = _choose_edit(runtime, kind, attempt)
    body = ask_for_progress(attempt)
    path, sent = _address(runtime, kind, body, call)
    with runtime.engine.client.open("POST", path, sent, call=call, timeout_s=None) as response:
        if response.status != HTTPStatus.OK or not _is_stream(response, attempt.mode):
            reply = _read_whole(response)
            if attempt.mode == STREAM:
                # A caller that reads events cannot read it, and the next attempt would bring the same.
                raise EngineProtocolError("a whole answer instead of a stream of events")
            raise NoStream(response.status, reply)
        stream = RelayedStream(
            attempt,
            call,
            EventStream(call.sock, response),
            publish=attempt.mode != GATHER,
            keep=attempt.mode != STREAM,
            edit=edit,
            skip_progress=body is not attempt.body,
            check=check,
        )
        try:
            runtime.stream_relay.run(stream)
        finally:
            tokens = note_stream(attempt, stream, runtime.settings.llm_context)
            worker.observe_stream(kind.name, started_at, stream.first_at, tokens)
        if stream.source.ended:
            # It was read to its end, but not by http.client: the connection can be used again.
            response.close()
        return stream


def _hide(runtime: EngineRuntime, kind: Kind, reply: bytes) -> bytes:
    """Return a whole answer as every caller may read it."""
    if kind.method == "GET":
        # What an engine tells about itself.
        return hide_in_reply(kind.path, reply)
    info = runtime.supervisor.info
    if info is None:
        return reply
    return info.hide_model_paths(reply)


def _choose_edit(runtime: EngineRuntime, kind: Kind, attempt: Attempt) -> Callable[[bytes], bytes] | None:
    """Return what changes the events of a stream; None if they pass as they came, as those of most engines do."""
    edits: list[Callable[[bytes], bytes]] = []
    if attempt.earlier:
        edits.append(ContinuedStream(attempt).edit)
    info = runtime.supervisor.info
    if info is not None and info.names:
        edits.append(info.hide_model_paths)
    if not edits:
        return None
    return lambda event: reduce(lambda edited, edit: edit(edited), edits, event)


def _is_stream(response: HTTPResponse, mode: str) -> bool:
    """Return whether an answer is a stream of events; one that does not say what it is may be what was asked for."""
    kind = (response.getheader("Content-Type") or "").partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return True
    return mode == STREAM and not kind.endswith(("json", "html", "xml"))


def _run(self: LlmTask, task_id: Any = "", *_others: Any, **_named: Any) -> None:
    # Another program may send any arguments.
    self.execute(task_id)


for _kind in LLM_KINDS.values():
    shared_task(name=_kind.name, base=LlmTask, bind=True)(_run)
