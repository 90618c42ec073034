from __future__ import annotations

import json
from typing import Any

import pytest

from graycat.errors import EngineError, EngineProtocolError
from graycat.queue.kinds import CHAT, COMPLETION, INFILL, MESSAGES, OPENAI_COMPLETION, RESPONSES, Kind
from graycat.tasks.llm_events import DONE_EVENT, READ_WHOLE_BYTES, StreamCheck, check_whole, refusal, to_engine_error


def event(value: Any, name: str = "") -> bytes:
    """Return an event as the reader of streams writes it."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(value)}\n\n".encode()


def choice(index: int, reason: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": {}, "finish_reason": reason}


@pytest.mark.parametrize(
    ("kind", "last"),
    [
        (COMPLETION, event({"content": "", "stop": True})),
        (INFILL, event({"content": "", "stop": True})),
        (CHAT, DONE_EVENT),
        (OPENAI_COMPLETION, DONE_EVENT),
        (RESPONSES, event({"type": "response.completed"}, "response.completed")),
        (RESPONSES, event({"type": "response.incomplete"})),
        (MESSAGES, event({"type": "message_stop"}, "message_stop")),
    ],
)
def test_each_dialect_has_its_own_end_however_its_json_is_written(kind: Kind, last: bytes) -> None:
    check = StreamCheck(kind, b"{}")
    first = event({"content": '"stop": true [DONE] message_stop response.completed', "stop": False})
    assert (check.take(first), check.is_whole) == (first, False)
    assert (check.take(last), check.is_whole) == (last, True)


@pytest.mark.parametrize("kind", [COMPLETION, MESSAGES, RESPONSES])
def test_only_those_who_know_done_get_it(kind: Kind) -> None:
    check = StreamCheck(kind, b"{}")
    assert (check.take(DONE_EVENT), check.is_done, check.finish()) == (b"", True, [])


@pytest.mark.parametrize(("request_body", "missing"), [(b"{}", []), (b'{"n": 2}', []), (b'{"n": 3}', None), (b"x", [])])
def test_done_is_added_only_if_every_answer_has_ended(request_body: bytes, missing: Any) -> None:
    check = StreamCheck(CHAT, request_body)
    check.take(event({"choices": [choice(0, "stop")]}))
    check.take(event({"choices": [choice(0), choice(1, "length")]}))
    assert check.finish() == ([DONE_EVENT] if missing is not None else [])
    assert check.finish() == []


def test_a_null_event_is_passed_on() -> None:
    assert StreamCheck(OPENAI_COMPLETION, b"{}").take(b"data: null\n\n") == b"data: null\n\n"


@pytest.mark.parametrize("value", [{"error": None}, {"error": {}}, {"error": ""}])
def test_an_error_that_is_none_is_none(value: dict[str, Any]) -> None:
    assert StreamCheck(CHAT, b"{}").take(event(value)) == event(value)


def test_a_failed_response_is_an_error() -> None:
    failed = {"type": "response.failed", "response": {"error": {"code": "server_error", "message": "out of memory"}}}
    with pytest.raises(EngineError) as caught:
        StreamCheck(RESPONSES, b"{}").take(event(failed, "response.failed"))
    assert json.loads(caught.value.reply)["error"] == {
        "code": 500,
        "message": "out of memory",
        "type": "server_error",
    }


def test_an_error_in_llama_cpp_s_form_keeps_its_bytes() -> None:
    reply = b'{"error": {"code":400,"message":"m","type":"t","n_ctx":5}}'
    assert to_engine_error(json.loads(reply), reply).reply is reply


def test_other_fields_of_an_error_stay() -> None:
    error = to_engine_error({"type": "error", "code": 429, "message": "m", "n_ctx": 5}, b"")
    assert (error.status, json.loads(error.reply)["error"]["n_ctx"]) == (429, 5)


@pytest.mark.parametrize("reply", [b"[1", b"x" * (READ_WHOLE_BYTES + 1), b"[" * 50_000])
def test_a_whole_answer_that_is_no_json_makes_no_sense(reply: bytes) -> None:
    with pytest.raises(EngineProtocolError):
        check_whole(reply)


@pytest.mark.parametrize(
    "reply", [b"[]", b'{"object": "response", "error": {"code": "x"}}', b"[" + b"1," * READ_WHOLE_BYTES + b"1]\n"]
)
def test_a_whole_answer_may_be_any_json(reply: bytes) -> None:
    check_whole(reply)


def test_an_error_status_with_json_is_the_engine_s_own() -> None:
    assert isinstance(refusal(404, b'{"detail": "no"}'), EngineError)
    assert isinstance(refusal(404, b"no"), EngineProtocolError)
