from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graycat.batches.runner.prompt_writer import (
    MAX_TRIES,
    PROMPTS_PER_ANSWER,
    SHOWN_PROMPTS,
    build_chat_request,
)
from graycat.batches.spec.images import PromptRequest
from tests.support.batching import Batching
from tests.support.helpers import Valkey, claimed, message_of, new_task

TAVERN: dict[str, Any] = {"name": "tavern", "prompts": {"ask": "portraits for a tavern", "count": 25}}


@pytest.fixture
def batching(broker: Valkey, tmp_path: Path) -> Batching:
    return Batching(broker, tmp_path / "out")


def answered(prompts: Any) -> bytes:
    return json.dumps({"choices": [{"message": {"content": json.dumps({"prompts": prompts})}}]}).encode()


def write(batching: Batching, answer: bytes) -> dict[str, Any]:
    """Play the text engine's worker for one task; return what it was asked."""
    attempt = batching.claim_next("llm.batch")
    assert attempt is not None
    assert batching.records.succeed(attempt, 200, answer)
    batching.requests.pop()
    asked: dict[str, Any] = json.loads(attempt.body)
    return asked


def wanted(asked: dict[str, Any]) -> int:
    schema = asked["response_format"]["json_schema"]["schema"]["properties"]["prompts"]
    assert schema["minItems"] == schema["maxItems"]
    return int(schema["maxItems"])


def test_prompts_are_written_in_portions_and_then_become_images(batching: Batching) -> None:
    batch_id = batching.submit(TAVERN)
    batching.run_steps(3)
    assert batching.batches.get(batch_id)["reason"] == "its prompts are being written"
    first = write(batching, answered([f"portrait {n}" for n in range(PROMPTS_PER_ANSWER)]))
    batching.run_steps(3)
    # Repeats, and what is no prompt, are asked for once more.
    second = write(batching, answered(["Portrait, 3", "Your name:", *(f"some {n}" for n in range(8))]))
    batching.run_steps(3)
    third = write(batching, answered([f"more {n}" for n in range(7)]))
    assert (wanted(first), wanted(second), wanted(third)) == (PROMPTS_PER_ANSWER, PROMPTS_PER_ANSWER, 7)
    assert "portrait 9" in second["messages"][-1]["content"]
    assert batching.run_to_end(batch_id) == "succeeded"
    assert [line["prompt"] for line in batching.manifest(batch_id)][-1] == "more 6"
    assert len(batching.manifest(batch_id)) == 25


def test_a_queue_that_is_full_is_waited_for(broker: Valkey, tmp_path: Path) -> None:
    batching = Batching(broker, tmp_path / "out", queue_cap=1)
    records, another = batching.records, new_task(queue="llm.batch")
    records.create(another, message_of(another.id))
    batch_id = batching.submit(TAVERN | {"prompts": {"ask": "portraits", "count": 2}})
    batching.run_steps(10)
    assert batching.batches.get(batch_id)["state"] in ("queued", "running")
    assert records.succeed(claimed(records, another.id), 200, b"{}")
    broker.client.delete("llm.batch")
    batching.run_steps(3)
    write(batching, answered(["one", "two"]))
    assert batching.run_to_end(batch_id) == "succeeded"


def test_what_was_written_is_asked_for_once(batching: Batching) -> None:
    document = {"name": "x", "prompts": {"ask": "two", "count": 2}}
    batch_id = batching.batches.submit(document, "tests", "k")[0]
    batching.run_steps(3)
    write(batching, answered(["a knight", "a thief"]))
    assert batching.run_to_end(batch_id) == "succeeded"
    batching.files(batch_id)[0].unlink()
    # Neither a resume nor a broker without a memory asks again.
    batching.batches.resume(batch_id)
    assert batching.run_to_end(batch_id) == "succeeded"
    batching.client.flushall()
    batching.batches.submit(document, "tests", "k")
    assert batching.run_to_end(batch_id) == "succeeded"
    assert (batching.claim_next("llm.batch"), len(batching.requests)) == (None, 3)


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"choices": []}', answered("text"), answered([3, " ", "Age:"])])
def test_an_answer_of_no_use_is_asked_for_again_and_not_for_ever(batching: Batching, answer: bytes) -> None:
    batch_id = batching.submit(TAVERN)
    for _ in range(MAX_TRIES):
        batching.run_steps(3)
        write(batching, answer)
    batching.run_steps(3)
    view = batching.batches.get(batch_id)
    assert (view["state"], "0 of 25 prompts, and then no usable ones, 5 times" in view["reason"]) == ("failed", True)


def test_a_paused_batch_s_question_is_answered_later(batching: Batching) -> None:
    batch_id = batching.submit(TAVERN)
    batching.run_steps(2)
    batching.batches.pause(batch_id)
    batching.run_steps(2)
    assert batching.state(batch_id) == "paused"


def test_a_request_has_what_its_asker_chose() -> None:
    body = build_chat_request(PromptRequest("x", 30, 0.1, 5, "gemma"), ["one"] * (SHOWN_PROMPTS + 1), 1)
    assert (round(body["temperature"], 3), body["seed"], body["model"]) == (0.3, 5 + SHOWN_PROMPTS + 1 + 1, "gemma")
    assert body["messages"][-1]["content"].count("one\n") == SHOWN_PROMPTS - 1
    assert not {"seed", "model"} & build_chat_request(PromptRequest("x", 3), [], 0).keys()


def test_a_question_gets_smaller_and_warmer_with_each_useless_answer() -> None:
    bodies = [build_chat_request(PromptRequest("x", 100, 0.9), [], tries) for tries in range(MAX_TRIES)]
    assert [wanted(body) for body in bodies] == [10, 5, 2, 1, 1]
    assert [round(body["temperature"], 1) for body in bodies] == [0.9, 1.1, 1.3, 1.5, 1.5]
    assert build_chat_request(PromptRequest("x", 1, 3.0), [], 1)["temperature"] == 3.0


def test_the_answer_begins_with_what_was_asked() -> None:
    body = build_chat_request(PromptRequest("line one\n line two " + "x" * 4000, 1), [], 0)
    about = body["response_format"]["json_schema"]["schema"]["properties"]["about"]["const"]
    assert (about[:19], len(about)) == ("line one line two x", 200)
