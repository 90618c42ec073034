from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from celery.exceptions import Reject
from opentelemetry.trace import SpanKind, StatusCode

from graycat.engines.base import Health
from graycat.worker import tracing
from graycat.worker.runtime import run_untraced
from tests.support.helpers import Valkey
from tests.support.servers import reply
from tests.support.spans import SPAN, TRACE, TRACEPARENT, Spans, attributes, id_of, parent_of, trace_of
from tests.support.workers import Worker, worker_on

PROMPT = "a secret of the player"
BODY = b'{"prompt": "a secret of the player"}'
ANSWER = {"POST /tokenize": reply(200, {"tokens": [1]}), "POST /detokenize": reply(500, {"error": {"code": 500}})}


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def worker(broker: Valkey, spans: Spans) -> Iterator[Worker]:
    """Yield a worker that traces."""
    with worker_on(broker, ANSWER) as worker:
        worker.records.traceparent = lambda: TRACEPARENT
        tracing.install(worker.runtime, spans.tracing)
        yield worker


def accept(worker: Worker, kind: str = "llm.tokenize") -> str:
    return worker.accept(kind=kind, mode="plain", body=BODY, request_id="request-1")


def test_wait_attempt_and_call_are_spans_of_the_request_s_trace(worker: Worker, spans: Spans) -> None:
    task_id = accept(worker)
    worker.run(task_id)
    assert worker.ended(task_id) == ("succeeded", "200")
    wait, call, attempt = spans.named("wait llm"), spans.named("POST /tokenize"), spans.named("llm.tokenize")
    assert {trace_of(span) for span in (wait, call, attempt)} == {TRACE}
    assert (parent_of(wait), parent_of(attempt), parent_of(call)) == (SPAN, SPAN, id_of(attempt))
    assert (wait.kind, attempt.kind, call.kind) == (SpanKind.CONSUMER, SpanKind.CONSUMER, SpanKind.CLIENT)
    assert attributes(attempt) == {
        "graycat.task_id": task_id,
        "graycat.kind": "llm.tokenize",
        "graycat.queue": "llm",
        "graycat.attempt": 1,
        "graycat.worker": "llm@here",
        "graycat.request_id": "request-1",
        "graycat.outcome": "succeeded",
    }
    assert attributes(call) == {
        "http.request.method": "POST",
        "url.path": "/tokenize",
        "http.response.status_code": 200,
        "graycat.engine": "scripted",
    }
    record = worker.records.get(task_id)
    assert (wait.start_time, wait.end_time) == (
        int(record["enqueued_ms"]) * 1_000_000,
        int(record["claimed_ms"]) * 1_000_000,
    )
    assert PROMPT not in "".join(span.to_json() for span in spans.finished)


def test_the_engine_gets_the_id_of_its_span(worker: Worker, spans: Spans) -> None:
    worker.run(accept(worker))
    (headers,) = worker.seen.headers
    assert headers["traceparent"] == f"00-{TRACE}-{id_of(spans.named('POST /tokenize'))}-01"


def test_a_first_event_is_marked(worker: Worker, spans: Spans) -> None:
    attempt = worker.claim(kind="llm.tokenize", mode="plain", body=BODY)
    worker.records.publish(attempt, 1, [b"data: 1"])
    assert worker.runtime.run_attempt(attempt, lambda: "cancelled") == "cancelled"
    (event,) = spans.named("llm.tokenize").events
    assert event.name == "first event"
    assert event.timestamp == int(worker.records.get(attempt.task_id)["first_event_ms"]) * 1_000_000
    assert spans.named("llm.tokenize").status.status_code is StatusCode.UNSET


def test_an_engine_s_error_marks_both_spans(worker: Worker, spans: Spans) -> None:
    worker.run(accept(worker, "llm.detokenize"))
    assert spans.named("POST /detokenize").status.status_code is StatusCode.ERROR
    attempt = spans.named("llm.detokenize")
    assert (attempt.status.status_code, attempt.status.description) == (StatusCode.ERROR, "failed")


def test_an_exception_is_named_and_its_text_is_not(worker: Worker, spans: Spans) -> None:
    attempt = worker.claim(kind="llm.tokenize", mode="plain", body=BODY)

    def fail() -> str:
        raise ValueError(PROMPT)

    with pytest.raises(ValueError, match=PROMPT):
        worker.runtime.run_attempt(attempt, fail)
    span = spans.named("llm.tokenize")
    assert (span.status.description, span.events) == ("ValueError", ())
    assert PROMPT not in span.to_json()


def test_a_broken_call_ends_its_span(worker: Worker, spans: Spans) -> None:
    worker.seen.answers["POST /tokenize"] = lambda handler: handler.connection.shutdown(socket.SHUT_RDWR)
    with pytest.raises(Reject):
        worker.run(accept(worker))
    assert spans.named("POST /tokenize").status.status_code is StatusCode.ERROR


def test_a_broker_that_is_gone_is_no_reason_to_fail(mortal_broker: Valkey, spans: Spans) -> None:
    with worker_on(mortal_broker, ANSWER) as worker:
        tracing.install(worker.runtime, spans.tracing)
        attempt = worker.claim(kind="llm.tokenize", mode="plain", body=BODY)
        mortal_broker.kill()
        assert worker.runtime.run_attempt(attempt, lambda: "succeeded") == "succeeded"


def test_what_the_worker_asks_by_itself_is_not_traced(worker: Worker, spans: Spans) -> None:
    assert worker.runtime.engine.health() is Health.HEALTHY
    assert spans.finished == []
    assert "traceparent" not in worker.seen.headers[-1]


def test_a_worker_that_does_not_trace_runs_attempts_and_nothing_else(broker: Valkey) -> None:
    with worker_on(broker, ANSWER) as worker:
        assert worker.runtime.run_attempt is run_untraced
        worker.records.traceparent = lambda: TRACEPARENT
        worker.run(accept(worker))
        assert "traceparent" not in worker.seen.headers[-1]
