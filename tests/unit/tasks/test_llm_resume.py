from __future__ import annotations

import json
from typing import Any

import pytest

from graycat.queue.models import Attempt
from graycat.tasks.llm_resume import continue_attempt, merge_final_event


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
        {"n_predict": 3},
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
    ],
)
def test_chunks_that_do_not_tell_their_tokens_are_not_continued(chunk: bytes) -> None:
    assert continue_attempt(attempt(), [*CHUNKS, chunk]) is None


def test_other_kinds_and_answers_without_a_token_are_not_continued() -> None:
    assert continue_attempt(attempt(kind="llm.chat"), CHUNKS) is None
    assert continue_attempt(attempt(), [event("", [])]) is None


def test_the_end_of_a_continued_stream_tells_of_the_whole() -> None:
    final = event("", [], stop=True, tokens_predicted=4, tokens_evaluated=5, prompt="<bos>Once upon a")
    ended = json.loads(merge_final_event(final, CHUNKS).removeprefix(b"data: "))
    assert (ended["tokens_predicted"], ended["tokens_evaluated"], ended["prompt"]) == (7, 2, "<bos>Once")
    assert merge_final_event(CHUNKS[0], CHUNKS) == CHUNKS[0]
