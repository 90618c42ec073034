from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from graycat.engines.client import Call
from graycat.errors import EngineError, EngineLost, EngineProtocolError
from graycat.queue import kinds
from graycat.queue.kinds import Kind
from graycat.tasks.llm_gather import GATHERINGS, as_stream
from tests.support.helpers import Valkey, chunks
from tests.support.servers import Answer, Handler, reply, stream
from tests.support.workers import Worker, worker_on

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded" / "answers.json").read_text())
CHAT = {"messages": [{"role": "user", "content": "Hi"}]}
CONTINUED = {"messages": [*CHAT["messages"], {"role": "assistant", "content": "I am"}]}


def asked_as(kind: Kind, body: Any, broker: Valkey) -> Any:
    """Return what the engine is asked for the whole answer to a body; None if it is asked plainly."""
    with worker_on(broker, {}) as worker:
        attempt = worker.claim(kind=kind.name, mode="plain", body=json.dumps(body).encode())
    streamed = as_stream(attempt)
    if streamed is None:
        return None
    assert streamed == replace(attempt, mode="gather", body=streamed.body)
    return json.loads(streamed.body)


def whole(worker: Worker, kind: str, body: Any) -> tuple[int, bytes]:
    """Have the engine asked for a whole answer."""
    attempt = worker.claim(kind=kind, mode="plain", body=json.dumps(body).encode())
    status, answer = worker.task(kind).perform(worker.runtime, attempt, Call())
    assert chunks(worker.records, attempt.task_id) == []
    return status, answer


def recorded_stream(name: str) -> tuple[str, str, Answer]:
    """Return a recorded answer's kind, the engine's route, and the stream that the engine sends."""
    recorded = RECORDED[name]
    kind = kinds.KINDS[recorded["kind"]]
    return kind.name, f"POST {kind.path}", stream(*(f"{event}\n\n".encode() for event in recorded["events"]))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (kinds.COMPLETION, {"prompt": ["one", "two"], "n": 2}),
        (kinds.COMPLETION, {"prompt": "Hi", "stop": ["x"], "response_fields": [], "n_probs": 0}),
        (kinds.COMPLETION, {"prompt": "Hi", "n_probs": 3, "stream": None}),
        (kinds.INFILL, {"input_prefix": "def"}),
        (kinds.OPENAI_COMPLETION, {"prompt": "Hi", "logprobs": 2}),
        (kinds.OPENAI_COMPLETION, {"prompt": "Hi", "stop": "x", "stream": False}),
        (kinds.RESPONSES, {"input": "Hi", "n": 1}),
        (kinds.MESSAGES, CHAT),
    ],
)
def test_a_whole_answer_that_can_be_rebuilt_is_streamed_by_the_engine(broker: Valkey, kind: Kind, body: Any) -> None:
    assert asked_as(kind, body, broker) == body | {"stream": True}


def test_a_chat_is_asked_to_tell_its_usage_and_with_stop_words_how_far_it_is(broker: Valkey) -> None:
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    assert asked_as(kinds.CHAT, CHAT | {"stream_options": {"include_usage": False}}, broker) == CHAT | usage
    stopped = CHAT | {"stop": ["x"]}
    assert asked_as(kinds.CHAT, stopped, broker) == stopped | usage | {"timings_per_token": True}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (kinds.COMPLETION, {"prompt": "Hi", "return_tokens": True}),
        (kinds.COMPLETION, {"prompt": "Hi", "response_fields": ["content"]}),
        (kinds.COMPLETION, {"prompt": "Hi", "n_probs": 1, "stop": ["x"]}),
        (kinds.INFILL, {"return_tokens": True}),
        (kinds.OPENAI_COMPLETION, {"prompt": "Hi", "logprobs": 1, "stop": ["x"]}),
        (kinds.CHAT, CHAT | {"logprobs": True}),
        (kinds.CHAT, CHAT | {"n_probs": 1}),
        (kinds.CHAT, CHAT | {"reasoning_format": "deepseek-legacy"}),
        (kinds.CHAT, CONTINUED),
        (kinds.RESPONSES, {"input": "Hi", "n": 2}),
        (kinds.RESPONSES, {"input": "Hi", "stop": ["x"]}),
        (kinds.MESSAGES, CHAT | {"stop_sequences": ["x"]}),
        (kinds.MESSAGES, CHAT | {"n_cmpl": 2}),
        (kinds.MESSAGES, CONTINUED),
        (kinds.EMBEDDINGS, {"content": "Hi"}),
        (kinds.TOKENIZE, {"content": "Hi"}),
        (kinds.CHAT, []),
        (kinds.CHAT, "Hi"),
    ],
)
def test_a_whole_answer_that_a_stream_does_not_have_is_asked_for_plainly(broker: Valkey, kind: Kind, body: Any) -> None:
    assert asked_as(kind, body, broker) is None


@pytest.mark.parametrize("body", [b"", b"{", b"\xff"])
def test_a_body_that_is_no_json_is_the_engine_s_to_refuse(broker: Valkey, body: bytes) -> None:
    with worker_on(broker, {}) as worker:
        assert as_stream(worker.claim(kind="llm.chat", mode="plain", body=body)) is None


def test_a_call_that_streams_already_stays_as_it_is(broker: Valkey) -> None:
    with worker_on(broker, {}) as worker:
        assert as_stream(worker.claim(mode="stream", body=b'{"prompt": "Hi"}')) is None


@pytest.mark.parametrize("name", ["chat n", "oai several n", "several prompts", "resp", "msg", "tool"])
def test_a_plain_task_has_the_answer_that_the_engine_gives_whole(broker: Valkey, name: str) -> None:
    kind, route, answer = recorded_stream(name)
    with worker_on(broker, {route: answer}) as worker:
        status, given = whole(worker, kind, RECORDED[name]["request"])
        assert worker.seen.bodies()[-1]["stream"] is True
    assert (status, json.loads(given)) == (200, RECORDED[name]["reply"])


def test_held_back_text_is_asked_of_the_engine(broker: Valkey) -> None:
    kind, route, answer = recorded_stream("stop held at 6")
    with worker_on(broker, {route: answer, "POST /detokenize": reply(200, {"content": "END"})}) as worker:
        _, given = whole(worker, kind, RECORDED["stop held at 6"]["request"])
        assert worker.seen.bodies()[-1] == {"tokens": [8516]}
    assert json.loads(given)["content"] == "one two END"


def test_an_engine_that_does_not_tell_the_text_has_the_last_word(broker: Valkey) -> None:
    kind, route, answer = recorded_stream("stop held at 6")
    no = {"error": {"code": 501}}
    answers = {route: answer, "POST /detokenize": reply(501, no)}
    with worker_on(broker, answers) as worker, pytest.raises(EngineError) as caught:
        whole(worker, kind, RECORDED["stop held at 6"]["request"])
    assert caught.value.status == 501


def test_what_only_a_plain_call_can_tell_is_asked_once_more(broker: Valkey) -> None:
    kind, route, answer = recorded_stream("chat held 6")
    plainly = RECORDED["chat held 6"]["reply"]
    body = RECORDED["chat held 6"]["request"]
    answers = iter((answer, reply(200, plainly)))

    def take_next(handler: Handler) -> None:
        next(answers)(handler)

    with worker_on(broker, {route: take_next}) as worker:
        status, given = whole(worker, kind, body)
        assert [asked.get("stream", False) for asked in worker.seen.bodies()] == [True, False]
    assert (status, json.loads(given)) == (200, plainly)


@pytest.mark.parametrize("kind", GATHERINGS)
def test_an_engine_that_answers_whole_although_asked_to_stream_has_answered(broker: Valkey, kind: str) -> None:
    answer = b'{ "its" : "own" }'
    with worker_on(broker, {f"POST {kinds.KINDS[kind].path}": reply(200, answer)}) as worker:
        assert whole(worker, kind, CHAT) == (200, answer)


@pytest.mark.parametrize("kind", GATHERINGS)
@pytest.mark.parametrize(
    "data", [b"no JSON", b"[]", b"7", b'{"strange": 1}', b'{"choices": [{"index": 0}]}', b'{"type": "message_delta"}']
)
def test_an_event_that_makes_no_sense_is_the_engine_s_fault(broker: Valkey, kind: str, data: bytes) -> None:
    events = stream(b"data: " + data + b"\n\n", b"data: [DONE]\n\n")
    senseless = pytest.raises((EngineProtocolError, EngineLost))
    with worker_on(broker, {f"POST {kinds.KINDS[kind].path}": events}) as worker, senseless:
        whole(worker, kind, CHAT)
