from __future__ import annotations

import json
from typing import Any

import pytest

from graycat.bounds.body import check_bounds, count_answers
from graycat.errors import GrammarTooLarge, GraycatError, TooComplex
from graycat.settings import Settings

SMALL = Settings(
    max_json_depth=3,
    max_items=4,
    max_answers=4,
    max_probs=4,
    max_words=2,
    max_word_chars=5,
    max_logit_bias=2,
    max_samplers=2,
    max_tools=2,
    max_grammar_bytes=50,
    max_schema_bytes=250,
    max_repetition=10,
)
BAD = {"maxLength": 11}
#: The body of each API, as its clients write it.
ORDINARY: list[dict[str, Any]] = [
    {},
    {"prompt": "Hi"},
    {"prompt": list(range(100_000))},
    {"prompt": ["Hi", *range(100_000)]},
    {"prompt": {"prompt_string": "Hi", "multimodal_data": []}},
    {"prompt": "Hi", "grammar": "", "stop": None, "logit_bias": {"15043": -1.5}, "seed": 0, "tfs_z": 1.0},
    {"prompt": "Hi", "samplers": ["top_k", "top_p", "min_p", "temperature"], "logit_bias": [[1, False], ["a", -1]]},
    {"content": "Hi"},
    {"content": ["Hi"] * 2048},
    {"tokens": list(range(100_000))},
    {"query": "x", "documents": ["y"] * 1000},
    {"input": ["text"] * 2048},
    {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}], "text": {"format": {}}},
    {"messages": [{"role": "user", "content": "Hi"}] * 2000, "n": 1, "logprobs": True, "top_logprobs": 20},
    {"messages": 7, "tools": "x", "response_format": [], "stop": 7, "logit_bias": "x", "samplers": 7, "n_probs": "x"},
    {"messages": [7, {"content": 7, "tool_calls": 7}, {"tool_calls": [7, {"function": 7}]}], "tools": [7, {}]},
    {"system": [{"type": "text", "text": "x"}], "stop_sequences": ["a"], "tools": [{"input_schema": {}}]},
    {"input_prefix": "a", "input_suffix": "b", "input_extra": [{"filename": "x", "text": "y"}]},
]


@pytest.mark.parametrize("body", ORDINARY, ids=lambda body: json.dumps(body)[:40])
def test_ordinary_bodies_pass(body: dict[str, Any]) -> None:
    check_bounds(body, Settings())


def deep_call(levels: int) -> list[dict[str, Any]]:
    """Return a chat with a call whose arguments have so many levels."""
    return [{"role": "assistant", "tool_calls": [{"function": {"arguments": "[" * levels + "]" * levels}}]}]


@pytest.mark.parametrize(
    ("within", "above", "setting", "place"),
    [
        ({"prompt": ["a"] * 4}, {"prompt": ["a"] * 5}, "max_items", "prompt"),
        ({"content": ["a"] * 4}, {"content": ["a"] * 5}, "max_items", "content"),
        ({"documents": ["a"] * 4}, {"documents": ["a"] * 5}, "max_items", "documents"),
        ({"input": ["a"] * 4}, {"input": ["a"] * 5}, "max_items", "input"),
        ({"input": [*range(9), "a"]}, {"input": [*range(9), *"abcde"]}, "max_items", "input"),
        ({"input_extra": [{}] * 4}, {"input_extra": [{}] * 5}, "max_items", "input_extra"),
        ({"messages": [{}] * 4}, {"messages": [{}] * 5}, "max_items", "messages"),
        (
            {"messages": [{}, {"content": [{}] * 4}]},
            {"messages": [{}, {"content": [{}] * 5}]},
            "max_items",
            "messages[1].content",
        ),
        (
            {"messages": [{"tool_calls": [{}] * 4}]},
            {"messages": [{"tool_calls": [{}] * 5}]},
            "max_items",
            "messages[0].tool_calls",
        ),
        ({"messages": deep_call(3)}, {"messages": deep_call(4)}, "max_json_depth", "the JSON"),
        ({"input": [{"arguments": "[[[]]]"}]}, {"input": [{"arguments": "[[[[]]]]"}]}, "max_json_depth", "the JSON"),
        ({"n": 4}, {"n": 5}, "max_answers", "the body"),
        ({"prompt": ["a", "b"], "n_cmpl": 2}, {"prompt": ["a", "b"], "best_of": 3}, "max_answers", "the body"),
        ({"n_probs": 4}, {"n_probs": 5}, "max_probs", "n_probs"),
        ({"top_logprobs": 4}, {"top_logprobs": 5}, "max_probs", "top_logprobs"),
        ({"logprobs": 4}, {"logprobs": 5}, "max_probs", "logprobs"),
        ({"stop": ["a", "b"]}, {"stop": ["a", "b", "c"]}, "max_words", "stop"),
        ({"stop": "abcde"}, {"stop": "abcdef"}, "max_word_chars", "stop[0]"),
        ({"stop_sequences": ["abcde"]}, {"stop_sequences": ["a", "abcdef"]}, "max_word_chars", "stop_sequences[1]"),
        ({"dry_sequence_breakers": ["a"]}, {"dry_sequence_breakers": ["abcdef"]}, "max_word_chars", "dry_sequence"),
        ({"grammar_triggers": [{"value": "a"}]}, {"grammar_triggers": [{"value": "abcdef"}]}, "max_word_chars", "gram"),
        ({"logit_bias": {"1": 1, "2": 1}}, {"logit_bias": {"1": 1, "2": 1, "3": 1}}, "max_logit_bias", "logit_bias"),
        ({"logit_bias": [[1, 1]] * 2}, {"logit_bias": [[1, 1]] * 3}, "max_logit_bias", "logit_bias"),
        ({"logit_bias": {"abcde": 1}}, {"logit_bias": {"abcdef": 1}}, "max_word_chars", "logit_bias[0]"),
        ({"logit_bias": [["abcde", 1]]}, {"logit_bias": [[1, 1], ["abcdef", 1]]}, "max_word_chars", "logit_bias[1]"),
        ({"samplers": ["a", "b"]}, {"samplers": ["a", "b", "c"]}, "max_samplers", "samplers"),
        ({"samplers": "kp"}, {"samplers": "kpm"}, "max_samplers", "samplers"),
        ({"tools": [{}] * 2}, {"tools": [{}] * 3}, "max_tools", "tools"),
        ({"tools": [{"x": "y" * 200}]}, {"tools": [{"x": "y" * 250}]}, "max_schema_bytes", "tools"),
        ({"json_schema": {"x": "y" * 200}}, {"json_schema": {"x": "y" * 250}}, "max_schema_bytes", "json_schema"),
        ({"grammar": "x" * 50}, {"grammar": "x" * 51}, "max_grammar_bytes", "grammar"),
    ],
)
def test_each_limit_of_a_body(within: Any, above: Any, setting: str, place: str) -> None:
    check_bounds(within, SMALL)
    with pytest.raises((TooComplex, GrammarTooLarge), match=f"GRAYCAT_{setting.upper()}") as caught:
        check_bounds(above, SMALL)
    assert str(caught.value).startswith(place)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"grammar": "a ::= [x]{11}"}, "grammar"),
        ({"json_schema": BAD}, "json_schema.maxLength"),
        ({"json_schema": {"schema": BAD}}, "json_schema.schema.maxLength"),
        ({"response_format": {"schema": BAD}}, "response_format.schema.maxLength"),
        ({"response_format": {"json_schema": {"schema": BAD}}}, "response_format.json_schema.schema.maxLength"),
        ({"text": {"format": {"type": "json_schema", "schema": BAD}}}, "text.format.schema.maxLength"),
        ({"output_format": {"schema": BAD}}, "output_format.schema.maxLength"),
        ({"output_config": {"format": {"schema": BAD}}}, "output_config.format.schema.maxLength"),
        ({"tools": [{}, {"function": {"parameters": BAD}}]}, "tools[1].function.parameters.maxLength"),
        ({"tools": [{"parameters": BAD}]}, "tools[0].parameters.maxLength"),
        ({"tools": [{"input_schema": BAD}]}, "tools[0].input_schema.maxLength"),
        ({"functions": [{"parameters": BAD}]}, "functions[0].parameters.maxLength"),
    ],
)
def test_schemas_are_found_where_each_api_has_them(body: dict[str, Any], place: str) -> None:
    with pytest.raises(GraycatError) as caught:
        check_bounds(body, SMALL)
    limit = "11 repetitions; this server takes 10 (GRAYCAT_MAX_REPETITION)"
    assert str(caught.value).startswith((f"{place} has {limit}", f"{place} has 11 repetitions inside each other"))


def test_answers_are_prompts_times_answers_to_each() -> None:
    assert count_answers({"prompt": "x"}) == 1
    assert count_answers({"prompt": ["x", "y"], "n": 3}) == 6
    assert count_answers({"prompt": [1, 2], "n": None, "n_cmpl": 2.0}) == 2
