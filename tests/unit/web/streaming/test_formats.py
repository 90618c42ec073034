from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graycat.errors import EngineError, GraycatError, TaskExpired
from graycat.web.streaming.formats import ANTHROPIC, MAX_EVENT_BYTES, encode_llamacpp_event
from tests.support.helpers import outcome_of, sse

#: A final event as an engine sends it; its settings alone have two and a half thousand bytes.
RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "tasks" / "recorded" / "completions.json").read_text()
)
FINAL: dict[str, Any] = json.loads(RECORDED["plain"]["events"][-1].removeprefix("data: "))


def event_of(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def value_of(event: bytes) -> dict[str, Any]:
    assert event.startswith(b"data: {")
    assert event.endswith(b"}\n\n")
    value: dict[str, Any] = json.loads(event.removeprefix(b"data: "))
    return value


@pytest.mark.parametrize(
    "event", [*sse("Hel", "lo"), b'data: {"content" : "odd  spacing" }\n\n', event_of({"a": "ü" * 1000})]
)
def test_an_event_that_fits_passes_byte_for_byte(event: bytes) -> None:
    assert encode_llamacpp_event(event) == event


def test_a_final_event_that_fits_keeps_what_it_repeats() -> None:
    event = event_of(FINAL | {"prompt": "short", "generation_settings": {"n_predict": 4}})
    assert encode_llamacpp_event(event) == event


@pytest.mark.parametrize("characters", [1000, 4000, 100_000])
def test_a_final_event_with_a_long_prompt_goes_without_it(characters: int) -> None:
    event = encode_llamacpp_event(event_of(FINAL | {"prompt": "ä" * characters}))
    assert len(event) <= MAX_EVENT_BYTES
    without = {name: value for name, value in FINAL.items() if name != "prompt"}
    assert value_of(event) == without
    assert "generation_settings" in without


def test_a_final_event_that_is_still_too_large_goes_without_its_settings() -> None:
    large = FINAL | {
        "prompt": "a" * 4000,
        "generation_settings": FINAL["generation_settings"] | {"grammar": "g" * 2000},
    }
    event = encode_llamacpp_event(event_of(large))
    assert len(event) <= MAX_EVENT_BYTES
    assert value_of(event) == {k: v for k, v in FINAL.items() if k not in ("prompt", "generation_settings")}


def test_what_the_client_reads_of_a_final_event_stays() -> None:
    value = value_of(encode_llamacpp_event(event_of(FINAL | {"prompt": "a" * 9000, "content": "ünd „so“"})))
    assert (value["stop"], value["content"], value["tokens"]) == (True, "ünd „so“", [])
    assert value["timings"] == FINAL["timings"]


def test_a_large_event_in_the_middle_loses_nothing() -> None:
    value = {"content": "x", "tokens": [1], "stop": False, "completion_probabilities": ["p" * 5000]}
    assert value_of(encode_llamacpp_event(event_of(value))) == value


@pytest.mark.parametrize("filler", ["", "a" * 4000])
@pytest.mark.parametrize(
    "text", ["data: ", "a data: {} data: b", "data: data: ", "\\data: ", 'say "data: "', "data:data: ü"]
)
def test_text_that_looks_like_a_new_event_is_written_differently(text: str, filler: str) -> None:
    value = {"content": text, "stop": True, "stopping_word": text, "prompt": filler}
    event = encode_llamacpp_event(event_of(value))
    # The v1 and v2 clients split the body there.
    assert event.count(b"data: ") == 1
    assert value_of(event)["content"] == value_of(event)["stopping_word"] == text


QUICK = [("/tokenize", "llm.tokenize"), ("/detokenize", "llm.detokenize"), ("/apply-template", "llm.apply_template")]


@pytest.mark.parametrize(("path", "kind"), QUICK)
def test_a_call_that_needs_no_slot_takes_the_quick_queue(web, take, records, path: str, kind: str) -> None:
    body = b'{ "content":"Hi", "tokens":[1],\n"messages":[], "stream":false, "unknown": 1.0 }'
    response = outcome_of(lambda: web.post(path, data=body))
    attempt = take("llm.quick")
    records.succeed(attempt, 200, b"[]")
    assert (attempt.kind, attempt.mode, attempt.body) == (kind, "plain", body)
    assert response().status_code == 200


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (TaskExpired(), "task_expired", str(TaskExpired())),
        (EngineError(503, TaskExpired().encoded()), "task_expired", str(TaskExpired())),
        (EngineError(500, b"<html>"), "server_error", "the engine answered 500"),
        (EngineError(500, b'{"error": "bad"}'), "server_error", "the engine answered 500"),
    ],
)
def test_a_late_error_of_anthropic_s_api_has_type_and_message(error: GraycatError, kind: str, message: str) -> None:
    name, data = ANTHROPIC.encode_error(error).split(b"\n", 1)
    assert name == b"event: error"
    assert value_of(data) == {"type": "error", "error": {"type": kind, "message": message}}


@pytest.mark.parametrize(
    ("body", "mode"),
    [
        (b'{"prompt": "Hi",  "stream": true, "tfs_z": 1.0}', "stream"),
        (b'{"prompt": ["one", "two"],  "n_predict": 1}', "plain"),
        (b'{"prompt": "Hi", "response_fields": ["content"]}', "plain"),
        (b'{"prompt": "Hi", "n": 2}', "plain"),
    ],
)
def test_a_completion_reaches_the_engine_as_it_was_written(web, take, records, body: bytes, mode: str) -> None:
    response = outcome_of(lambda: web.post("/completion", data=body))
    attempt = take()
    assert (attempt.kind, attempt.mode, attempt.body) == ("llm.completion", mode, body)
    records.succeed(attempt, 200, b"{}")
    assert response().status_code == 200


@pytest.mark.parametrize("stream", [{}, {"stream": False}, {"stream": None}])
def test_a_whole_completion_is_streamed_from_the_engine(web, take, records, stream: dict[str, Any]) -> None:
    body = {"prompt": "Grüße", "temperature": 0.1, "stop": None, "logit_bias": {"15043": -1.5}, "tfs_z": 1.0}
    response = outcome_of(lambda: web.post("/completion", json=body | stream))
    attempt = take()
    assert (attempt.mode, json.loads(attempt.body)) == ("gather", body | {"stream": True})
    records.succeed(attempt, 200, b'{"content":"Hello"}')
    assert response().data == b'{"content":"Hello"}'


def test_a_stream_is_written_in_its_format(web, take, records) -> None:
    response = outcome_of(lambda: web.post("/completion", json={"prompt": "Hi", "stream": True}))
    attempt = take()
    records.publish(attempt, 1, [event_of(FINAL | {"prompt": "a" * 9000})])
    records.succeed(attempt, 200, b"")
    (chunk,) = response().response
    assert len(chunk) <= MAX_EVENT_BYTES


#: Completions that graycat itself refuses, and the field that is to blame.
BAD_COMPLETIONS = [
    ({}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"prompt": 1}, "prompt"),
    ({"prompt": "Hi", "stream": "yes"}, "stream"),
    ({"prompt": "Hi", "stream": 1}, "stream"),
]


@pytest.mark.parametrize(("body", "field"), BAD_COMPLETIONS)
def test_a_completion_that_makes_no_sense_names_the_field(web, client, body: dict[str, Any], field: str) -> None:
    response = web.post("/completion", json=body)
    assert (response.status_code, response.json["error"]["type"]) == (400, "invalid_request_error")
    assert f"'{field}'" in response.json["error"]["message"]
    assert client.keys("*") == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_properties_are_the_engine_s_bytes_from_its_worker_s_report(web, report, client, method: str) -> None:
    report("llm", props='{ "default_generation_settings":{"n_ctx":8192},  "model":"süß" }')
    response = web.open("/props", method=method, data=b'{"stream":false}' if method == "POST" else None)
    assert response.status_code == 200
    assert response.content_type == "application/json; charset=utf-8"
    assert response.data == '{ "default_generation_settings":{"n_ctx":8192},  "model":"süß" }'.encode()
    # No task was made of it.
    assert client.llen("llm") == client.llen("llm.quick") == 0


@pytest.mark.parametrize("body", [b"", b"null", b"no JSON", b'{"chat_template": "evil"}'])
def test_the_body_of_a_request_for_properties_is_ignored(web, report, body: bytes) -> None:
    report("llm", props='{"n_ctx":1}')
    assert web.post("/props", data=body).data == b'{"n_ctx":1}'


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_without_workers_there_are_no_properties(web, method: str) -> None:
    response = web.open("/props", method=method)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
    assert response.json["error"] == {
        "code": 503,
        "message": response.json["error"]["message"],
        "type": "unavailable_error",
    }


def test_a_worker_whose_engine_is_away_has_no_properties(web, report) -> None:
    report("llm", engine_state="loading", props='{"n_ctx":1}')
    assert web.post("/props").status_code == 503


@pytest.mark.parametrize(
    "large", [b"x" * 4000, b"[" * 4000, b"data: " * 1000, b"data: [1]" + b" " * 4000, b"\xff" * 4000]
)
def test_a_large_event_that_is_no_object_stays_large(large: bytes) -> None:
    assert len(encode_llamacpp_event(large)) >= len(large)
