"""The spans of a worker: a task's wait in its queue, the attempt at it, and its call to the engine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import Any

from graycat.engines.client import Call, EngineClient
from graycat.errors import BrokerUnavailable
from graycat.queue.models import Attempt
from graycat.tracing import TRACEPARENT, Tracing
from graycat.worker.runtime import EngineRuntime

#: Outcomes that are no error.
GOOD_OUTCOMES = frozenset({"succeeded", "cancelled", "handed back"})
#: Nanoseconds in a millisecond; spans count nanoseconds.
NS_PER_MS = 1_000_000


def install(runtime: EngineRuntime, tracing: Tracing) -> None:
    """Trace a worker's attempts and their calls to its engine."""
    runtime.run_attempt = TracedAttempts(runtime, tracing)
    runtime.engine.client = TracedClient(runtime.engine.client, runtime.engine.name, tracing)


class TracedAttempts:
    """Runs attempts inside spans, in the trace that their task's record names."""

    def __init__(self, runtime: EngineRuntime, tracing: Tracing) -> None:
        self._runtime = runtime
        self._tracing = tracing

    def __call__(self, attempt: Attempt, run: Callable[[], str]) -> str:
        """Run an attempt; return its outcome."""
        from opentelemetry.trace import SpanKind, Status, StatusCode, use_span

        traceparent, enqueued, claimed = self._fields(attempt, TRACEPARENT, "enqueued_ms", "claimed_ms")
        parent = self._tracing.context({TRACEPARENT: traceparent})
        attributes: dict[str, Any] = {
            "graycat.task_id": attempt.task_id,
            "graycat.kind": attempt.kind,
            "graycat.queue": attempt.queue,
            "graycat.attempt": attempt.number,
            "graycat.worker": self._runtime.name,
            "graycat.request_id": attempt.request_id,
        }
        tracer = self._tracing.tracer
        if enqueued and claimed:
            # Both times are the broker's.
            waited = tracer.start_span(
                f"wait {attempt.queue}", parent, SpanKind.CONSUMER, attributes, None, int(enqueued) * NS_PER_MS
            )
            waited.end(max(int(claimed), int(enqueued)) * NS_PER_MS)
        span = tracer.start_span(attempt.kind, parent, SpanKind.CONSUMER, attributes)
        # An exception's text may hold private data; its type is enough.
        with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                outcome = run()
            except BaseException as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise
            span.set_attribute("graycat.outcome", outcome)
            if outcome not in GOOD_OUTCOMES:
                span.set_status(Status(StatusCode.ERROR, outcome))
            if span.is_recording():
                (first_event_ms,) = self._fields(attempt, "first_event_ms")
                if first_event_ms:
                    span.add_event("first event", timestamp=int(first_event_ms) * NS_PER_MS)
        return outcome

    def _fields(self, attempt: Attempt, *names: str) -> list[str]:
        """Return fields of a task's record; empty ones if the broker is away, since a trace must not end a task."""
        with contextlib.suppress(BrokerUnavailable):
            return self._runtime.records.fields(attempt.task_id, *names)
        return [""] * len(names)


class TracedClient(EngineClient):
    """An engine's client that makes a span of each call for a task, and sends the span's id to the engine."""

    def __init__(self, inner: EngineClient, engine: str, tracing: Tracing) -> None:
        """``inner`` does the work."""
        self._inner = inner
        self._engine = engine
        self._tracing = tracing

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        call: Call | None = None,
        timeout_s: float | None = 5.0,
        once: bool = False,
    ) -> Iterator[HTTPResponse]:
        """Yield the engine's response, as EngineClient does."""
        from opentelemetry.trace import SpanKind, Status, StatusCode, get_current_span

        # Health checks, progress and interrupts are not traced.
        if call is None or not get_current_span().get_span_context().is_valid:
            with self._inner.open(method, path, body, call=call, timeout_s=timeout_s, once=once) as response:
                yield response
            return
        attributes = {"http.request.method": method, "url.path": path, "graycat.engine": self._engine}
        span = self._tracing.tracer.start_span(f"{method} {path}", kind=SpanKind.CLIENT, attributes=attributes)
        call.headers = self._tracing.headers(span)
        try:
            with self._inner.open(method, path, body, call=call, timeout_s=timeout_s, once=once) as response:
                span.set_attribute("http.response.status_code", response.status)
                if response.status >= 400:
                    span.set_status(Status(StatusCode.ERROR))
                yield response
        except BaseException as error:
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise
        finally:
            span.end()
