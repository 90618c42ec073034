"""Text tasks: one body for every kind, because the engine's routes differ only in their path."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from celery import shared_task

from graycat.engines.client import Call, EngineClient
from graycat.engines.sse import EventStream
from graycat.errors import EngineError, EngineLost, EngineProtocolError
from graycat.metrics import worker
from graycat.queue.kinds import CHAT, GATHER, LIVE, LLM_KINDS, MESSAGES, OPENAI_COMPLETION, PLAIN, STREAM, Kind
from graycat.queue.models import Attempt
from graycat.tasks.base import EngineTask
from graycat.tasks.llm_resume import as_one, continued
from graycat.worker.runtime import EngineRuntime
from graycat.worker.stream_relay import RelayedStream

#: How an engine says at the end how many tokens that were; in a text the quotes would be escaped.
_TOLD = re.compile(rb'"(?:tokens_predicted|completion_tokens|output_tokens)":\s*(\d+)')
#: Events of a stream that are no token's: they begin or end it. One, where nothing is said here.
_FRAME = {CHAT.name: 3, OPENAI_COMPLETION.name: 2, MESSAGES.name: 5}


class LlmTask(EngineTask):
    """A call of one engine route, in the mode that the record names."""

    abstract = True

    def resume(self, attempt: Attempt, chunks: Sequence[bytes]) -> Attempt | None:
        """Return an attempt that goes on behind the tokens of earlier ones, where the engine can be told so."""
        return continued(attempt, chunks)

    def perform(self, runtime: EngineRuntime, attempt: Attempt, call: Call) -> tuple[int, bytes]:
        """Call the engine; stream, gather or fetch the answer."""
        kind = LLM_KINDS[attempt.kind]
        if attempt.mode == PLAIN:
            status, body = _fetch(runtime.engine.client, kind, attempt, call)
            if kind.ending and (told := _TOLD.search(body)):
                worker.TOKENS.labels(kind.name).inc(int(told[1]))
            return status, body
        flow = _streamed(runtime, kind, attempt, call)
        if attempt.mode in (GATHER, LIVE):
            return 200, gather(iter((*attempt.earlier, *flow.events)))
        # A caller who picks the fields may have left out the one that tells the end.
        if not (flow.events and kind.ending in flow.events[-1]) and b'"response_fields"' not in attempt.body:
            raise EngineLost
        return 200, b""


def _fetch(client: EngineClient, kind: Kind, attempt: Attempt, call: Call) -> tuple[int, bytes]:
    body = attempt.body if kind.method == "POST" else None
    with client.open(kind.method, kind.path, body, call=call, timeout_s=None) as response:
        body = response.read()
    if response.status >= 400:
        raise EngineError(response.status, body)
    return response.status, body


def _streamed(runtime: EngineRuntime, kind: Kind, attempt: Attempt, call: Call) -> RelayedStream:
    """Return the flow of the engine's events, at its end. Raises EngineError, EngineLost, EngineProtocolError."""
    began_at = time.monotonic()
    with runtime.engine.client.open("POST", kind.path, attempt.body, call=call, timeout_s=None) as response:
        if response.status >= 400:
            raise EngineError(response.status, response.read())
        source = EventStream(call.sock, response)
        publish, keep = attempt.mode != GATHER, attempt.mode != STREAM
        edit = partial(as_one, earlier=attempt.earlier) if attempt.earlier else None
        flow = RelayedStream(attempt, call, source, publish=publish, keep=keep, edit=edit)
        try:
            runtime.stream_relay.run(flow)
        finally:
            worker.observe_stream(kind.name, began_at, flow.first_at, _tokens_of(kind, flow))
        # Read to its end, though not by http.client: the connection is good for the next call.
        response.close()
        return flow


def _tokens_of(kind: Kind, flow: RelayedStream) -> int:
    """Return how many tokens a stream had: what its last event says, or about as many as it had events."""
    told = _TOLD.search(flow.events[-1]) if flow.events and not flow.attempt.earlier else None
    return int(told[1]) if told else max(flow.count - _FRAME.get(kind.name, 1), 0)


def gather(events: Iterator[bytes]) -> bytes:
    """Return the answer that ``/completion`` gives without streaming, from its stream's events.

    The final event is that answer, but for the text and the tokens' probabilities, which the events before it carry in
    pieces. Raises EngineLost where the final event is missing, EngineProtocolError for what is not llama.cpp's wire.
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
