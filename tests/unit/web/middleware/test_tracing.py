from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from opentelemetry.trace import SpanKind, StatusCode

from graycat import tracing
from graycat.queue.records import TaskRecords
from graycat.settings import Settings
from tests.support.helpers import Valkey
from tests.support.spans import SPAN, TRACE, TRACEPARENT, Spans, attributes, id_of, parent_of, trace_of

LATER = {"Prefer": "respond-async"}
BODY = {"prompt": "a secret of the player", "n_predict": 1}


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    """Return the spans of the applications that a test makes."""
    found = Spans()

    def start(_settings: Settings, service: str) -> Any:
        assert service == "web"
        return found.tracing

    monkeypatch.setattr(tracing, "start", start)
    return found


@pytest.fixture
def traced(spans: Spans, web_with: Callable[..., FlaskClient]) -> FlaskClient:
    """Return a client of an application that traces."""
    return web_with(traces_url="http://127.0.0.1:1")


def test_a_request_begins_a_trace_and_its_task_takes_it_along(
    traced: FlaskClient, spans: Spans, records: TaskRecords
) -> None:
    response = traced.post("/completion", json=BODY, headers=LATER, buffered=True)
    span = spans.named("POST /completion")
    assert span.kind is SpanKind.SERVER
    assert attributes(span) == {
        "http.request.method": "POST",
        "http.route": "/completion",
        "http.response.status_code": 202,
        "graycat.request_id": trace_of(span),
        "graycat.task_id": response.get_json()["id"],
        "graycat.owner": "tests",
    }
    assert response.headers["X-Request-ID"] == trace_of(span)
    record = records.get(response.get_json()["id"])
    assert record["traceparent"].startswith(f"00-{trace_of(span)}-{id_of(span)}-")
    assert record["request_id"] == trace_of(span)


def test_a_request_continues_the_caller_s_trace_and_keeps_its_request_id(
    traced: FlaskClient, spans: Spans, records: TaskRecords
) -> None:
    headers = LATER | {"traceparent": TRACEPARENT, "X-Request-ID": "mine-1"}
    response = traced.post("/tasks", json={"kind": "llm.completion", "input": BODY}, headers=headers, buffered=True)
    span = spans.named("POST /tasks")
    assert (trace_of(span), parent_of(span)) == (TRACE, SPAN)
    assert response.headers["X-Request-ID"] == attributes(span)["graycat.request_id"] == "mine-1"
    assert records.get(response.get_json()["id"])["traceparent"].startswith(f"00-{TRACE}-{id_of(span)}")


def test_nothing_that_a_caller_wrote_is_in_a_span(traced: FlaskClient, spans: Spans) -> None:
    traced.post("/completion?prompt=hidden", json=BODY, headers=LATER, buffered=True)
    traced.get("/nowhere/hidden", buffered=True)
    assert [span.name for span in spans.finished] == ["POST /completion", "GET -"]
    exported = "".join(span.to_json() for span in spans.finished)
    assert "hidden" not in exported
    assert "secret of the player" not in exported


def test_a_span_is_an_error_for_5xx_only(traced: FlaskClient, spans: Spans, broker: Valkey) -> None:
    traced.post("/completion", json=[], buffered=True)
    refused = spans.finished[-1]
    assert refused.status.status_code is StatusCode.UNSET
    traced.post("/health", buffered=True)
    failed = spans.finished[-1]
    assert attributes(failed)["http.response.status_code"] == 503
    assert failed.status.status_code is StatusCode.ERROR


def test_probes_are_not_traced(traced: FlaskClient, spans: Spans) -> None:
    for path in ("/health", "/ready", "/metrics"):
        traced.get(path, buffered=True)
    assert spans.finished == []


def test_without_the_setting_a_record_says_nothing_of_a_trace(web: FlaskClient, records: TaskRecords) -> None:
    response = web.post("/completion", json=BODY, headers=LATER | {"traceparent": TRACEPARENT})
    assert "traceparent" not in records.get(response.get_json()["id"])
