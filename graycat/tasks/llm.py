"""Text tasks: one body for every kind, because the engine's routes differ only in their path."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from celery import shared_task

from graycat.engines.http import Call, EngineClient, sse_events
from graycat.errors import EngineError, EngineLost, EngineNonsense, GraycatError
from graycat.records import Attempt
from graycat.tasks import runtime as rt
from graycat.tasks import signatures
from graycat.tasks.base import EngineTask
from graycat.tasks.runtime import Runtime
from graycat.tasks.signatures import Kind

#: How an error looks that the engine sends once its stream has begun.
_ERROR_EVENT = b'data: {"error"'


class LlmTask(EngineTask):
    """A call of one engine route, in the mode that the record names."""

    abstract = True

    def perform(self, runtime: Runtime, attempt: Attempt, call: Call) -> tuple[int, bytes]:
        """Call the engine; stream, gather or fetch the answer."""
        kind = signatures.LLM_KINDS[attempt.kind]
        client = runtime.engine.client
        if attempt.mode == signatures.PLAIN:
            return _fetch(client, kind, attempt, call)
        if attempt.mode == signatures.GATHER:
            events = (event for batch in _stream(client, kind, attempt, call) for event in batch)
            return 200, gather(events)
        last = b""
        for number, batch in enumerate(_stream(client, kind, attempt, call), start=1):
            if runtime.records.publish(attempt, number, batch):
                call.stop(rt.CANCELLED)
            last = batch[-1]
        # A caller who picks the fields may have left out the one that tells the end.
        if kind.ending not in last and b'"response_fields"' not in attempt.body:
            raise EngineLost
        return 200, b""


def _fetch(client: EngineClient, kind: Kind, attempt: Attempt, call: Call) -> tuple[int, bytes]:
    body = attempt.body if kind.method == "POST" else None
    with client.open(kind.method, kind.path, body, call=call, timeout_s=None) as response:
        body = response.read()
    if response.status >= 400:
        raise EngineError(response.status, body)
    return response.status, body


def _stream(client: EngineClient, kind: Kind, attempt: Attempt, call: Call) -> Iterator[list[bytes]]:
    """Yield the engine's events in the batches they arrive in. Raises EngineError, EngineLost."""
    with client.open("POST", kind.path, attempt.body, call=call, timeout_s=None) as response:
        if response.status >= 400:
            raise EngineError(response.status, response.read())
        for batch in sse_events(response):
            for event in batch:
                if event.startswith(_ERROR_EVENT):
                    raise _late_error(event.removeprefix(b"data: ").strip())
            yield batch


def _late_error(reply: bytes) -> GraycatError:
    """Return the error that an engine sent once its stream had begun."""
    try:
        return EngineError(int(json.loads(reply)["error"].get("code", 500)), reply)
    except (ValueError, KeyError, TypeError, AttributeError):
        return EngineNonsense()


def gather(events: Iterator[bytes]) -> bytes:
    """Return the answer that ``/completion`` gives without streaming, from its stream's events.

    The final event is that answer, but for the text and the tokens' probabilities, which the events before it carry in
    pieces. Raises EngineLost where the final event is missing, EngineNonsense for what is not llama.cpp's wire.
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
        raise EngineNonsense from None
    if not final.get("stop"):
        raise EngineLost
    final["content"] = "".join(content)
    final["generation_settings"]["stream"] = False
    if "completion_probabilities" in final or probabilities:
        final["completion_probabilities"] = probabilities
    return json.dumps(final, separators=(",", ":"), ensure_ascii=False).encode()


def _run(self: LlmTask, task_id: str) -> None:
    self.execute(task_id)


for _kind in signatures.LLM_KINDS.values():
    shared_task(name=_kind.name, base=LlmTask, bind=True)(_run)
