from __future__ import annotations

import gc
import json
from typing import Any

import pytest

from graycat import params
from graycat.errors import LimitExceeded, PromptTooLarge, RequestError

MAX_DEPTH = 100
#: Bodies that are no JSON object, and a word of the complaint.
UNREADABLE = [
    (b"", "the body is empty"),
    (b"prompt=Hi", "not JSON"),
    (b'{"prompt": "Hi"', "ends too early"),
    (b'{"prompt": "Hi"} and more', "not JSON"),
    (b"{'prompt': 'Hi'}", "not JSON"),
    (b'{"prompt": "\xff\xfe"}', "not JSON"),
    (b'{"temperature": NaN}', "NaN"),
    (b'{"temperature": Infinity}', "Infinity"),
    (b'{"temperature": -Infinity}', "-Infinity"),
    (b'{"temperature": 1e400}', "'temperature' is a number that is too large"),
    (b'{"seed": ' + b"9" * 5000 + b"}", "'seed' has 5000 digits"),
    ('{"prompt": "Hi"}'.encode("utf-16"), "written in UTF-16; send JSON as UTF-8"),
    (b"[" * 100_000, "nested more than 100 levels"),
    (b'{"a":' * 100_000, "nested more than 100 levels"),
    (b"[" * 101 + b"]" * 101, "nested more than 100 levels"),
    (b"null", "object"),
    (b'"prompt"', "object"),
    (b"17", "object"),
    (b'[{"prompt": "Hi"}]', "object"),
]


@pytest.mark.parametrize(("raw", "complaint"), UNREADABLE, ids=lambda value: str(value)[:30])
def test_a_body_that_is_no_object_is_refused(raw: bytes, complaint: str) -> None:
    with pytest.raises(RequestError, match=complaint) as caught:
        params.read_object(raw, MAX_DEPTH)
    assert caught.value.status == 400


def test_a_body_keeps_fields_that_graycat_does_not_know() -> None:
    raw = '{"prompt": "Grüße", "tfs_z": 1.0, "logit_bias": {"15043": -1.5}, "stop": null}'.encode()
    body = {"prompt": "Grüße", "tfs_z": 1.0, "logit_bias": {"15043": -1.5}, "stop": None}
    assert params.read_object(raw, MAX_DEPTH) == body


@pytest.mark.parametrize(
    "prompt", ["", "Hi", [], [1, 2], ["Hi", 1], ["a", "b"], [[1, 2], [3]], {"prompt_string": "Hi"}]
)
def test_a_prompt_may_be_text_ids_a_list_of_both_or_an_object(prompt: Any) -> None:
    assert params.completion_prompt({"prompt": prompt}) == prompt


@pytest.mark.parametrize("body", [{}, {"prompt": None}, {"prompt": 1}, {"prompt": True}])
def test_a_completion_without_a_usable_prompt_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="prompt"):
        params.completion_prompt(body)


@pytest.mark.parametrize(
    ("body", "wanted"), [({}, False), ({"stream": False}, False), ({"stream": None}, False), ({"stream": True}, True)]
)
def test_a_caller_who_says_so_gets_a_stream(body: dict[str, Any], wanted: bool) -> None:
    assert params.streams(body) is wanted


@pytest.mark.parametrize("stream", ["true", 1, 0, [], {}])
def test_a_stream_that_is_no_bool_is_refused(stream: Any) -> None:
    with pytest.raises(RequestError, match="stream"):
        params.streams({"stream": stream})


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "Hi"},
        {"prompt": [1, 2, 3]},
        {"prompt": ["Hi", 1]},
        {"prompt": {"prompt_string": "Hi"}},
        {"prompt": "Hi", "n": 1, "n_cmpl": 1, "response_fields": []},
        {"prompt": "Hi", "n_probs": 3, "stop": [], "return_tokens": False},
    ],
)
def test_one_answer_to_one_prompt_can_be_gathered(body: dict[str, Any]) -> None:
    assert params.gatherable(body)


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": ["one", "two"]},
        {"prompt": [[1, 2], [3]]},
        {"prompt": []},
        {"prompt": "Hi", "n": 2},
        {"prompt": "Hi", "n_cmpl": 2},
        {"prompt": "Hi", "response_fields": ["content"]},
        {"prompt": "Hi", "stop": ["\n"]},
        {"prompt": "Hi", "return_tokens": True},
    ],
)
def test_lists_of_answers_and_picked_fields_cannot_be_gathered(body: dict[str, Any]) -> None:
    assert not params.gatherable(body)


@pytest.mark.parametrize("field", ["prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt", "input"])
def test_every_text_that_a_model_reads_counts(field: str) -> None:
    params.check_size({field: "a" * 10, "sampler_name": "b" * 100}, 10)
    with pytest.raises(PromptTooLarge, match="11 characters"):
        params.check_size({field: "a" * 11}, 10)


@pytest.mark.parametrize(
    ("body", "written"),
    [
        ({}, {"n_predict": 100}),
        ({"n_predict": None}, {"n_predict": 100}),
        ({"n_predict": -1}, {"n_predict": 100}),
        ({"n_predict": "5"}, {"n_predict": 100}),
        ({"n_predict": True}, {"n_predict": 100}),
        # An engine that is old reads none but its own.
        ({"max_tokens": 30}, {"n_predict": 30}),
        ({"max_completion_tokens": 30, "max_tokens": 20}, {"n_predict": 20}),
        # It might count for more.
        ({"n_predict": 30, "max_tokens": -1}, {"max_tokens": 30}),
        ({"n": 4}, {"n_predict": 25}),
        ({"n_cmpl": 3}, {"n_predict": 33}),
        ({"prompt": ["a", "b"]}, {"n_predict": 50}),
        ({"prompt": [[1, 2], [3]], "n": 2}, {"n_predict": 25}),
        ({"prompt": [1, 2, 3]}, {"n_predict": 100}),
        ({"prompt": []}, {"n_predict": 100}),
    ],
)
def test_a_length_is_written_in_where_the_engine_would_find_none(body: dict[str, Any], written: dict[str, Any]) -> None:
    assert params.cap_tokens(body, "n_predict", 100) == body | written


@pytest.mark.parametrize(
    "body",
    [{"n_predict": 100}, {"n_predict": 0}, {"n_predict": 99.5}, {"n_predict": 50, "n": 2}, {"n_predict": 1, "n": -1}],
)
def test_a_body_that_says_enough_is_the_same_one(body: dict[str, Any]) -> None:
    assert params.cap_tokens(body, "n_predict", 100) is body


@pytest.mark.parametrize(
    "body",
    [
        {"n_predict": 101},
        {"max_tokens": 101},
        {"n_predict": 5, "max_output_tokens": 1e18},
        {"n_predict": 51, "n": 2},
        {"n_predict": 34, "prompt": ["a", "b", "c"]},
        {"prompt": ["a"] * 101},
        {"n": 101},
    ],
)
def test_a_longer_answer_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(LimitExceeded, match="100 tokens"):
        params.cap_tokens(body, "n_predict", 100)


def test_a_field_that_nobody_knows_is_refused() -> None:
    params.refuse_unknown({"name": "game"}, ("name", "limits"))
    with pytest.raises(RequestError, match="'limit'; did you mean 'limits'\\? there are name, limits"):
        params.refuse_unknown({"name": "game", "limit": 1}, ("name", "limits"))


def test_no_garbage_is_looked_for_while_a_body_is_read() -> None:
    begun: list[str] = []
    raw = json.dumps([{"a": []}] * 20_000).encode()
    note = lambda phase, _: begun.append(phase)  # noqa: E731
    gc.callbacks.append(note)
    try:
        json.loads(raw)
        assert begun
        begun.clear()
        params.read_json(raw, MAX_DEPTH)
    finally:
        gc.callbacks.remove(note)
    assert len(begun) <= 2
    assert gc.isenabled()
