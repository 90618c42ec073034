from __future__ import annotations

from typing import Any

import pytest

from graycat.errors import InvalidField
from graycat.queue.kinds import (
    APPLY_TEMPLATE,
    CHAT,
    COMPLETION,
    COUNT_CHAT,
    COUNT_MESSAGES,
    DETOKENIZE,
    EMBEDDINGS,
    INFILL,
    MESSAGES,
    OPENAI_COMPLETION,
    OPENAI_EMBEDDINGS,
    RERANK,
    RESPONSES,
    TOKENIZE,
    Kind,
)
from graycat.web.compat.field_types import FIELD_TYPES, check_types

GENERATING = [COMPLETION, INFILL, OPENAI_COMPLETION, CHAT, RESPONSES, MESSAGES]
SCHEMA = {"type": "json_schema", "json_schema": {"schema": {"type": "integer"}}}


@pytest.mark.parametrize("kind", GENERATING)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("grammar", 5), ("samplers", 5), ("samplers", [5]), ("logit_bias", 5), ("logit_bias", [5])),
        *(("logit_bias", [[5]]), ("response_fields", "content"), ("lora", [5]), ("temperature", "0.5"), ("seed", [])),
        *(("cache_prompt", 1), ("max_tokens", "many")),
    ],
)
def test_a_wrong_type_is_refused_wherever_text_is_generated(kind: Kind, name: str, value: Any) -> None:
    with pytest.raises(InvalidField, match=f"^'{name}': must be ") as refused:
        check_types(kind, {name: value})
    error = refused.value.body()["error"]
    assert (error["code"], error["type"], error["param"]) == (400, "invalid_request_error", name)


@pytest.mark.parametrize(
    ("kind", "body", "path"),
    [
        (COMPLETION, {"stop": [5]}, "stop"),
        (OPENAI_COMPLETION, {}, "prompt"),
        (CHAT, {"stop": 5}, "stop"),
        (CHAT, {"tools": 5}, "tools"),
        (CHAT, {"tool_choice": 5}, "tool_choice"),
        (CHAT, {"top_logprobs": "x"}, "top_logprobs"),
        (CHAT, {"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (CHAT, {"response_format": SCHEMA | {"json_schema": {"name": "a"}}}, "response_format.json_schema.schema"),
        (RESPONSES, {"instructions": 5}, "instructions"),
        (RESPONSES, {"tools": ["x"]}, "tools"),
        (MESSAGES, {"system": 5}, "system"),
        (MESSAGES, {"system": ["x"]}, "system"),
        (MESSAGES, {"tools": 5}, "tools"),
        (MESSAGES, {"tool_choice": "auto"}, "tool_choice"),
        (MESSAGES, {"messages": 5}, "messages"),
        (COUNT_MESSAGES, {"messages": [{}, {"content": 5}]}, "messages[1].content"),
        (MESSAGES, {"stop_sequences": 5}, "stop_sequences"),
        (TOKENIZE, {"with_pieces": "yes"}, "with_pieces"),
        (DETOKENIZE, {"tokens": ["x"]}, "tokens"),
        (DETOKENIZE, {"tokens": None}, "tokens"),
        (TOKENIZE, {"content": 7}, "content"),
        (TOKENIZE, {"content": [{}]}, "content"),
        (TOKENIZE, {"content": None}, "content"),
        (EMBEDDINGS, {"content": 5}, "content"),
        (EMBEDDINGS, {"content": ["a", None]}, "content"),
        (EMBEDDINGS, {"input": [True]}, "input"),
        (EMBEDDINGS, {"input": {}}, "input"),
        (OPENAI_EMBEDDINGS, {"input": [1.5]}, "input"),
        (OPENAI_EMBEDDINGS, {"encoding_format": "floats"}, "encoding_format"),
        (OPENAI_EMBEDDINGS, {"encoding_format": None}, "encoding_format"),
        (EMBEDDINGS, {"embd_normalize": "x"}, "embd_normalize"),
        (RERANK, {"query": ["a"]}, "query"),
        (RERANK, {"documents": ["a", None]}, "documents"),
        (RERANK, {"texts": 5}, "texts"),
        (RERANK, {"top_n": "x"}, "top_n"),
        (INFILL, {"input_prefix": 5}, "input_prefix"),
        (INFILL, {"input_extra": [{"filename": "a"}]}, "input_extra"),
        (APPLY_TEMPLATE, {"messages": "Hi"}, "messages"),
        (APPLY_TEMPLATE, {"messages": [{"role": 5}]}, "messages[0].role"),
        (APPLY_TEMPLATE, {"tools": 5}, "tools"),
        (CHAT, {"reasoning_format": None}, "reasoning_format"),
        (CHAT, {"messages": [{}, {"role": None}]}, "messages[1].role"),
        (COUNT_CHAT, {"messages": [{"name": 5}]}, "messages[0].name"),
        (CHAT, {"messages": [{"content": [{"type": "text", "text": 5}]}]}, "messages[0].content[0].text"),
    ],
)
def test_a_wrong_type_is_refused_with_its_path(kind: Kind, body: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidField) as refused:
        check_types(kind, body)
    assert refused.value.param == path


@pytest.mark.parametrize("kind", FIELD_TYPES)
def test_null_is_taken_for_most_fields_and_other_fields_pass_on(kind: Kind) -> None:
    nullable = [name for name, known in FIELD_TYPES[kind].items() if known.nullable]
    check_types(kind, dict.fromkeys(nullable) | {"prompt": "x", "unheard_of": object()})


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (COMPLETION, {"stop": [], "grammar": "", "logit_bias": [[5, False], ["a", 1.5]], "n_predict": 1.0}),
        (
            COMPLETION,
            {"logit_bias": {"5": "1.0"}, "samplers": "kmt", "mirostat": True, "lora": [{"id": 0, "scale": 1}]},
        ),
        (OPENAI_COMPLETION, {"prompt": "x", "stop": "END"}),
        (INFILL, {"stop": "END"}),
        (MESSAGES, {"stop_sequences": "END"}),
        (CHAT, {"stop": ["END"], "tool_choice": "auto", "tools": [{}], "response_format": SCHEMA}),
        (CHAT, {"tool_choice": {"type": "function"}, "response_format": {"type": "json_object"}}),
        (MESSAGES, {"system": [{"type": "text"}], "messages": [{"content": "x"}, {"content": [{"type": "text"}]}]}),
        (DETOKENIZE, {"tokens": []}),
        (TOKENIZE, {"content": ["a", 1, 1.5]}),
        (EMBEDDINGS, {"content": ["a", 5]}),
        (EMBEDDINGS, {"content": [[1], ["a", 2]], "encoding_format": "base64", "embd_normalize": 2}),
        (OPENAI_EMBEDDINGS, {"input": [{"prompt_string": "a"}], "user": 5, "dimensions": "x"}),
        (RERANK, {"query": "a", "texts": ["a"], "top_n": 1.0}),
        (INFILL, {"input_prefix": "a", "input_suffix": ["b", 5], "input_extra": [{"text": "c"}]}),
        (APPLY_TEMPLATE, {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}),
        # What the engine itself refuses in plain words.
        (CHAT, {"messages": "Hi"}),
        (CHAT, {"messages": [5, {"content": 5}, {"content": [5]}]}),
        (CHAT, {"messages": [{"role": "assistant", "content": None, "reasoning_content": None}]}),
    ],
)
def test_what_the_engine_takes_passes(kind: Kind, body: dict[str, Any]) -> None:
    check_types(kind, body)
