"""Whole completions: what the bare engine answers, to the letter."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.stack import Client

#: One engine, one seed, no cache: the same request has the same answer.
SETTLED = {"n_predict": 6, "temperature": 0, "seed": 1, "cache_prompt": False}
#: What differs between two runs of one request.
FLEETING = ("timings", "id_slot", "tokens_cached")

BODIES: dict[str, dict[str, Any]] = {
    "text": {"prompt": "The lighthouse keeper said"},
    "empty text": {"prompt": ""},
    "every kind of character": {"prompt": 'a "quote", a \\ and\n\ttabs, \x01, naïve 🦊 日本語, data: [DONE]'},
    "token ids": {"prompt": [504, 22881, 9301, 335]},
    "text and token ids": {"prompt": [0, "1, 2, 3", 28]},
    "token ids and text": {"prompt": ["1, 2, 3", 28, " 4"]},
    "a list of one text": {"prompt": ["1, 2, 3,"]},
    "several prompts": {"prompt": ["1, 2, 3,", [504, 22881, 9301], "a b c"]},
    "one prompt of ids in a list": {"prompt": [[504, 22881, 9301]]},
    "several answers": {"prompt": "1, 2, 3,", "n": 2},
    "probabilities": {"prompt": "The", "n_probs": 3},
    "probabilities after sampling": {"prompt": "The", "n_probs": 3, "post_sampling_probs": True},
    "tokens": {"prompt": "The", "return_tokens": True},
    "tokens and probabilities": {"prompt": "The", "return_tokens": True, "n_probs": 1},
    "chosen fields": {"prompt": "1, 2,", "response_fields": ["content", "generation_settings/n_predict"]},
    "no fields": {"prompt": "1, 2,", "response_fields": []},
    "a stop word": {"prompt": "1, 2, 3, 4,", "stop": ["6"]},
    "a stop word in pieces": {"prompt": "1, 2, 3, 4,", "stop": [", 6, 8", ", 7"]},
    "a stop word in pieces with tokens": {
        "prompt": "1, 2, 3, 4,", "stop": [", 6, 8", ", 7"], "return_tokens": True, "n_probs": 1,
    },
    "no stop word": {"prompt": "1, 2,", "stop": None, "grammar": ""},
    "a grammar": {"prompt": "Is it?", "grammar": 'root ::= "yes" | "no"'},
    "a schema": {
        "prompt": "JSON:", "n_predict": 24,
        "json_schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    },
    "output in utf-8": {"prompt": "日本語のテキスト、東京、"},
    "characters in pieces": {"prompt": "x", "grammar": 'root ::= "🦊𓀀ü"', "n_predict": 16},
    "characters in pieces with tokens": {
        "prompt": "x", "grammar": 'root ::= "🦊𓀀ü"', "n_predict": 16, "return_tokens": True, "n_probs": 2,
    },
    "tokens of a character cut off": {
        "prompt": "x", "grammar": 'root ::= "𓀀𓀀𓀀𓀀"', "n_predict": 2, "return_tokens": True,
    },
    "no token at all": {"prompt": "x", "n_predict": 0},
    "fields of older clients": {"prompt": "1, 2,", "tfs_z": 1, "penalize_nl": True, "penalty_prompt": None},
    "fields nobody knows": {"prompt": "1, 2,", "graycat": {"x": [1, None]}},
    "a bias": {"prompt": "1, 2, 3,", "logit_bias": {"216": -100}},
    "a stream that is asked not to be": {"prompt": "1, 2,", "stream": False},
}  # fmt: skip


def settled(answer: Any) -> Any:
    """Return an answer without what differs between two runs."""
    if isinstance(answer, list):
        return [settled(part) for part in answer]
    return {name: value for name, value in answer.items() if name not in FLEETING}


@pytest.mark.parametrize("name", BODIES)
def test_a_whole_answer_is_that_of_the_bare_engine(api: Client, engine: Client, name: str) -> None:
    body = SETTLED | BODIES[name]
    expected, given = engine.post("/completion", body), api.post("/completion", body)
    assert (given.status_code, given.headers["Content-Type"]) == (200, expected.headers["Content-Type"])
    assert settled(given.json()) == settled(expected.json())


def test_a_character_that_the_limit_cuts_in_half_is_left_out(api: Client, engine: Client) -> None:
    body = SETTLED | {"prompt": "x", "grammar": 'root ::= "𓀀𓀀𓀀𓀀"', "n_predict": 2}
    expected, given = (settled(client.post("/completion", body).json()) for client in (engine, api))
    assert expected.pop("content") == "\ufffd"
    assert given.pop("content") == ""
    assert given == expected


def test_a_body_in_another_encoding_of_json_reaches_the_engine(api: Client, engine: Client) -> None:
    body = rb'{"prompt": "\u0031, 2, \uD83E\uDD8A", "n_predict": 4, "temperature": 0, "seed": 1, "cache_prompt": false}'
    answers = [c.request("POST", "/completion", data=body).json() for c in (engine, api)]
    assert settled(answers[1]) == settled(answers[0])


@pytest.mark.parametrize("characters", [100, 8000])
def test_a_whole_answer_echoes_a_prompt_of_any_length(api: Client, characters: int) -> None:
    prompt = ("recommendations for characteristics " * 300)[:characters]
    answer = api.post("/completion", {"prompt": prompt, "n_predict": 1}).json()
    assert answer["prompt"] == prompt
