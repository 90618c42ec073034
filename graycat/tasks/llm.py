"""Text tasks. One class serves every kind, because the engine's routes differ only in their path."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Sequence
from typing import Any

from celery import shared_task

from graycat.engines.client import Call, EngineClient
from graycat.engines.sse import EventStream
from graycat.errors import EngineError, EngineLost, EngineProtocolError
from graycat.metrics import worker
from graycat.queue.kinds import CHAT, GATHER, LIVE, LLM_KINDS, MESSAGES, OPENAI_COMPLETION, PLAIN, STREAM, Kind
from graycat.queue.models import Attempt
from graycat.tasks.base import EngineTask
from graycat.tasks.llm_resume import ContinuedStream, continue_attempt, is_whole
from graycat.worker.runtime import EngineRuntime
from graycat.worker.stream_relay import RelayedStream

#: Where an engine's last event (or its whole answer) tells the number of tokens. In a text the quotes would be escaped.
_TOKEN_COUNT = re.compile(rb'"(?:tokens_predicted|completion_tokens|output_tokens)":\s*(\d+)')
#: The number of events that begin or end a stream and carry no token; for other kinds it is one.
_EVENTS_WITHOUT_TOKEN = {CHAT.name: 3, OPENAI_COMPLETION.name: 2, MESSAGES.name: 5}


class LlmTask(EngineTask):
    """A call of one route of the engine, in the mode that the record names."""

    abstract = True

    def resume(self, attempt: Attempt, chunks: Sequence[bytes]) -> Attempt | None:
        """Return an attempt that continues after the tokens of earlier attempts; None if the engine cannot do that."""
        return continue_attempt(attempt, chunks)

    def whole_answer(self, attempt: Attempt, chunks: Sequence[bytes]) -> tuple[int, bytes] | None:
        """Return the answer of a stream that was published to its last event; None if more were to come."""
        if not is_whole(attempt, chunks):
            return None
        if attempt.mode == STREAM:
            return 200, b""
        try:
            return 200, gather(chunks)
        except (EngineLost, EngineProtocolError):
            return None

    def perform(self, runtime: EngineRuntime, attempt: Attempt, call: Call) -> tuple[int, bytes]:
        """Call the engine, and return its answer: whole, gathered from its stream, or empty if it was streamed."""
        kind = LLM_KINDS[attempt.kind]
        if attempt.mode == PLAIN:
            status, body = _fetch(runtime.engine.client, kind, attempt, call)
            tokens = _find_token_count(body) if kind.ending else None
            if tokens is not None:
                worker.TOKENS.labels(kind.name).inc(tokens)
            return status, body

        stream = _stream(runtime, kind, attempt, call)
        if attempt.mode in (GATHER, LIVE):
            return 200, gather([*attempt.earlier, *stream.events])
        # A caller that selects the fields may have left out the one that shows the end.
        shows_end = b'"response_fields"' not in attempt.body
        if shows_end and not (stream.events and kind.ending in stream.events[-1]):
            raise EngineLost
        return 200, b""


def _fetch(client: EngineClient, kind: Kind, attempt: Attempt, call: Call) -> tuple[int, bytes]:
    """Return status and body of the engine's answer. Raises EngineError, EngineLost."""
    body = None
    if kind.method == "POST":
        body = attempt.body
    with client.open(kind.method, kind.path, body, call=call, timeout_s=None) as response:
        reply = response.read()
    if response.status >= 400:
        raise EngineError(response.status, reply)
    return response.status, reply


def _stream(runtime: EngineRuntime, kind: Kind, attempt: Attempt, call: Call) -> RelayedStream:
    """Relay the engine's events, and return the stream at its end. Raises EngineError, EngineLost, EngineProtocolError.

    Raises also what ends a stream early: StaleAttempt, BrokerUnavailable.
    """
    started_at = time.monotonic()
    edit = ContinuedStream(attempt).edit if attempt.earlier else None
    with runtime.engine.client.open("POST", kind.path, attempt.body, call=call, timeout_s=None) as response:
        if response.status >= 400:
            raise EngineError(response.status, response.read())
        stream = RelayedStream(
            attempt,
            call,
            EventStream(call.sock, response),
            publish=attempt.mode != GATHER,
            keep=attempt.mode != STREAM,
            edit=edit,
        )
        try:
            runtime.stream_relay.run(stream)
        finally:
            worker.observe_stream(kind.name, started_at, stream.first_at, _count_tokens(kind, stream))
        # It was read to its end, but not by http.client: the connection can be used again.
        response.close()
        return stream


def _count_tokens(kind: Kind, stream: RelayedStream) -> int:
    """Return how many tokens a stream had: by its last event, or estimated by the number of its events."""
    if stream.events and not stream.attempt.earlier:
        tokens = _find_token_count(stream.events[-1])
        if tokens is not None:
            return tokens
    return max(stream.count - _EVENTS_WITHOUT_TOKEN.get(kind.name, 1), 0)


def _find_token_count(reply: bytes) -> int | None:
    found = _TOKEN_COUNT.search(reply)
    if found is None:
        return None
    return int(found[1])


def gather(events: Iterable[bytes]) -> bytes:
    """Return the answer that ``/completion`` gives without streaming, from the events of its stream.

    The final event is that answer without the text and the tokens' probabilities, which the events before it carry in
    parts. Raises EngineLost if the final event is missing, EngineProtocolError if an event is not llama.cpp's.
    """
    content: list[str] = []
    probabilities: list[Any] = []
    final: dict[str, Any] = {}
    try:
        for event in events:
            final = json.loads(event.removeprefix(b"data: "))
            content.append(final["content"])
            probabilities += final.get("completion_probabilities", [])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise EngineProtocolError from None
    if not final.get("stop"):
        raise EngineLost
    final["content"] = "".join(content)
    final["generation_settings"]["stream"] = False
    if "completion_probabilities" in final or probabilities:
        final["completion_probabilities"] = probabilities
    return json.dumps(final, separators=(",", ":"), ensure_ascii=False).encode()


def _run(self: LlmTask, task_id: str) -> None:
    self.execute(task_id)


for _kind in LLM_KINDS.values():
    shared_task(name=_kind.name, base=LlmTask, bind=True)(_run)
