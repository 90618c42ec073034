from __future__ import annotations

import json
from typing import Any

import pytest

from graycat.queue.models import Attempt
from graycat.tasks.llm_resume import ContinuedStream, continue_attempt, is_whole


def attempt(kind: str = "llm.completion", **body: Any) -> Attempt:
    raw = json.dumps({"prompt": "Once"} | body).encode()
    return Attempt("t", 2, kind, "stream", raw, 60.0, "", True, "1-0", "tests")


def event(content: str, tokens: list[int], **fields: Any) -> bytes:
    value = {"content": content, "tokens": tokens, "stop": False} | fields
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


CHUNKS = [event(" upon", [7]), event(" a", [8, 9])]


def body_of(found: Attempt | None) -> dict[str, Any]:
    assert found is not None
    body: dict[str, Any] = json.loads(found.body)
    return body


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [("Once", ["Once", 7, 8, 9]), ([1, 2], [1, 2, 7, 8, 9]), ([1, "x"], [1, "x", 7, 8, 9]), ("", ["", 7, 8, 9])],
)
def test_the_prompt_and_the_tokens_so_far_are_the_new_prompt(prompt: Any, wanted: list[Any]) -> None:
    assert body_of(continue_attempt(attempt(prompt=prompt), CHUNKS))["prompt"] == wanted


def test_what_is_left_to_predict_is_less_by_what_was_predicted() -> None:
    assert body_of(continue_attempt(attempt(n_predict=10, seed=1), CHUNKS)) == {
        "prompt": ["Once", 7, 8, 9],
        "n_predict": 7,
        "seed": 1,
    }
    assert body_of(continue_attempt(attempt(n_predict=-1), CHUNKS))["n_predict"] == -1
    assert "n_predict" not in body_of(continue_attempt(attempt(), CHUNKS))


@pytest.mark.parametrize(
    "body",
    [
        {"grammar": "root ::= 'a'"},
        {"json_schema": {"type": "object"}},
        {"stop": ["\n"]},
        {"prompt": ["one", "two"]},
        {"prompt": [[1, 2]]},
        {"n_cmpl": 2},
        {"n_predict": "many"},
        {"response_fields": ["content"]},
    ],
)
def test_an_answer_that_depends_on_more_than_its_tokens_is_not_continued(body: dict[str, Any]) -> None:
    assert continue_attempt(attempt(**body), CHUNKS) is None


@pytest.mark.parametrize(
    "chunk",
    [
        b"data: no JSON\n\n",
        event("text", []),
        event("x", [1], stop=True),
        b'data: {"content":"x"}\n\n',
        b"data: []\n\n",
        # The fourth token: the third was the beginning of a character.
        event("\u00fc", [9], tokens_predicted=5),
    ],
)
def test_chunks_that_do_not_tell_their_tokens_are_not_continued(chunk: bytes) -> None:
    assert continue_attempt(attempt(), [*CHUNKS, chunk]) is None


def test_other_kinds_and_answers_without_a_token_are_not_continued() -> None:
    assert continue_attempt(attempt(kind="llm.chat"), CHUNKS) is None
    assert continue_attempt(attempt(), [event("", [])]) is None


def test_the_counts_of_each_attempt_begin_anew() -> None:
    counted = [event("a", [1], tokens_predicted=1), event("b", [2], tokens_predicted=2)]
    assert body_of(continue_attempt(attempt(), [*counted, *counted]))["prompt"] == ["Once", 1, 2, 1, 2]


def test_a_last_token_without_a_text_may_have_been_the_end_and_is_chosen_again() -> None:
    found = body_of(continue_attempt(attempt(n_predict=9), [*CHUNKS, event("", [106])]))
    assert (found["prompt"], found["n_predict"]) == (["Once", 7, 8, 9], 5)
    assert body_of(continue_attempt(attempt(), [event("", [106])]))["prompt"] == "Once"


def continued(**body: Any) -> ContinuedStream:
    found = continue_attempt(attempt(**body), CHUNKS)
    assert found is not None
    return ContinuedStream(found)


def test_the_end_of_a_continued_stream_tells_of_the_whole() -> None:
    settings = {"n_predict": 4, "max_tokens": 4}
    final = event("", [], stop=True, tokens_predicted=4, tokens_evaluated=5, prompt="<bos>Once upon a")
    stream = continued(n_predict=7)
    ended = json.loads(stream.edit(final).removeprefix(b"data: "))
    assert (ended["tokens_predicted"], ended["tokens_evaluated"], ended["prompt"]) == (7, 2, "<bos>Once")
    assert stream.edit(CHUNKS[0]) == CHUNKS[0]
    final = event("", [], stop=True, generation_settings=settings, has_new_line=False)
    ended = json.loads(stream.edit(final).removeprefix(b"data: "))
    assert (ended["generation_settings"], ended["has_new_line"]) == ({"n_predict": 7, "max_tokens": 7}, False)
    unlimited = event("", [], stop=True, generation_settings={"n_predict": -1})
    assert json.loads(stream.edit(unlimited).removeprefix(b"data: "))["generation_settings"] == {"n_predict": -1}


@pytest.mark.parametrize("limit", [3, 2])
def test_a_stream_that_has_all_its_tokens_gets_its_final_event_and_no_further_token(limit: int) -> None:
    found = continue_attempt(attempt(n_predict=limit), CHUNKS)
    assert body_of(found)["n_predict"] == 0
    stream = continued(n_predict=limit)
    # llama.cpp predicts one token even then, which may be one that ends a text.
    assert stream.edit(event("x", [5], tokens_predicted=1)) == b""
    final = event("", [], stop=True, tokens_predicted=1, stop_type="eos", stopping_word="")
    ended = json.loads(stream.edit(final).removeprefix(b"data: "))
    assert (ended["tokens_predicted"], ended["stop_type"], ended["content"]) == (3, "limit", "")


FINAL = event("", [], stop=True)


@pytest.mark.parametrize(
    ("kind", "chunk", "body", "whole"),
    [
        ("llm.completion", FINAL, {}, True),
        ("llm.completion", FINAL, {"prompt": [1, 2], "n": 1}, True),
        ("llm.completion", FINAL, {"prompt": ["one", "two"]}, False),
        ("llm.completion", FINAL, {"n_cmpl": 2}, False),
        ("llm.completion", event('"stop":true', [1]), {}, False),
        ("llm.chat", b"data: [DONE]\n\n", {}, True),
        ("llm.chat", b'data: {"choices":[{"delta":{"content":"[DONE]"}}]}\n\n', {}, False),
        ("llm.responses", b'event: response.completed\ndata: {"type":"response.completed"}\n\n', {}, True),
        ("llm.responses", b'event: response.output_text.done\ndata: {"text":"response.completed"}\n\n', {}, False),
        ("llm.messages", b'event: message_stop\ndata: {"type":"message_stop"}\n\n', {}, True),
        ("llm.embeddings", FINAL, {}, False),
    ],
)
def test_an_answer_is_whole_with_the_last_event_of_its_stream(
    kind: str, chunk: bytes, body: dict[str, Any], whole: bool
) -> None:
    asked = attempt(kind, **body)
    assert is_whole(asked, [*CHUNKS, chunk]) is whole
    assert not is_whole(asked, [])
