"""The types of fields in text requests: an engine leaves a wrong one out without a word, or answers in C++ words.

Tried field by field on llama.cpp build 11549. What it takes stays allowed: null for most fields, a float for a count,
true or false for a number, one stop word as a string on each route. Fields outside the tables pass on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from graycat.errors import InvalidField
from graycat.queue.kinds import (
    APPLY_TEMPLATE,
    CHAT,
    COMPLETION,
    COUNT_CHAT,
    COUNT_MESSAGES,
    COUNT_RESPONSES,
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


class FieldType(NamedTuple):
    """What a field must be: the words for the caller, the test, and whether the engine takes null for "not given"."""

    words: str
    fits: Callable[[Any], bool]
    nullable: bool = True


def _is_list_of(value: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, list) and all(isinstance(entry, kind) for entry in value)


def _is_bias(value: Any) -> bool:
    """Return whether a value is an object, or a list of pairs. What a bias may be is left to the engine."""
    if isinstance(value, dict):
        return True
    return _is_list_of(value, list) and all(len(pair) == 2 for pair in value)


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_prompt(value: Any) -> bool:
    """Return whether a value is one text as the engine takes it: also in token ids, or mixed, or with media."""
    if isinstance(value, list):
        return all(isinstance(part, str) or _is_token(part) for part in value)
    return isinstance(value, str) or (isinstance(value, dict) and isinstance(value.get("prompt_string"), str))


def _is_prompts(value: Any) -> bool:
    return _is_prompt(value) or (isinstance(value, list) and all(_is_token(one) or _is_prompt(one) for one in value))


def _is_mixed(value: Any) -> bool:
    return isinstance(value, str) or _is_list_of(value, (str, int, float))


def _is_code(value: Any) -> bool:
    """Return whether a value is a list of further files, as infilling takes them."""
    return _is_list_of(value, dict) and all(isinstance(file.get("text"), str) for file in value)


TEXT = FieldType("a string", lambda value: isinstance(value, str))
TEXTS = FieldType("a list of strings", lambda value: _is_list_of(value, str))
TEXT_OR_TEXTS = FieldType(
    "a string or a list of strings", lambda value: isinstance(value, str) or _is_list_of(value, str)
)
#: A bool is an int in Python, and a number for the engine.
NUMBER = FieldType("a number", lambda value: isinstance(value, (int, float)))
BOOLEAN = FieldType("true or false", lambda value: isinstance(value, bool))
OBJECT = FieldType("an object", lambda value: isinstance(value, dict))
LIST = FieldType("a list", lambda value: isinstance(value, list))
OBJECTS = FieldType("a list of objects", lambda value: _is_list_of(value, dict))
TEXT_OR_OBJECT = FieldType("a string or an object", lambda value: isinstance(value, (str, dict)))
TEXT_OR_OBJECTS = FieldType(
    "a string or a list of objects", lambda value: isinstance(value, str) or _is_list_of(value, dict)
)
TOKENS = FieldType("a list of token ids", lambda value: _is_list_of(value, int))
#: Those behind which an engine has no "not given": it answers null in C++ words.
GIVEN_TEXT = TEXT._replace(nullable=False)
GIVEN_TEXTS = TEXTS._replace(nullable=False)
GIVEN_TOKENS = TOKENS._replace(nullable=False)
PROMPTS = FieldType("a string, a list of strings and token ids, or a list of such prompts", _is_prompts, nullable=False)
MIXED = FieldType("a string, or a list of strings and token ids", _is_mixed, nullable=False)
CODE = FieldType("a list of objects with 'filename' and 'text'", _is_code)
ENCODING = FieldType("'float' or 'base64'", lambda value: value in ("float", "base64"), nullable=False)
BIASES = FieldType("an object, or a list of pairs of token and bias", _is_bias)

Fields = dict[str, FieldType]

#: What every route that generates text reads, whatever its API.
_SAMPLING: Fields = {
    "grammar": TEXT,
    "logit_bias": BIASES,
    "lora": OBJECTS,
    "response_fields": TEXTS,
    "samplers": TEXT_OR_TEXTS,
    "stop": TEXT_OR_TEXTS,
    "preserved_tokens": LIST,
    "grammar_triggers": LIST,
    **dict.fromkeys(("seed", "temperature", "top_k", "top_p", "min_p", "top_n_sigma", "typical_p"), NUMBER),
    **dict.fromkeys(("xtc_probability", "dynatemp_range", "repeat_last_n", "repeat_penalty"), NUMBER),
    **dict.fromkeys(("frequency_penalty", "presence_penalty", "dry_multiplier", "dry_allowed_length"), NUMBER),
    **dict.fromkeys(("mirostat", "mirostat_tau", "n_probs", "min_keep", "n_keep", "n_discard", "n_indent"), NUMBER),
    **dict.fromkeys(("n_predict", "max_tokens", "t_max_predict_ms"), NUMBER),
    **dict.fromkeys(("post_sampling_probs", "cache_prompt", "return_tokens"), BOOLEAN),
    **dict.fromkeys(("dry_base", "dry_penalty_last_n", "mirostat_eta", "dynatemp_exponent", "xtc_threshold"), NUMBER),
    **dict.fromkeys(
        ("n", "n_cmpl", "logprobs", "adaptive_target", "adaptive_decay", "reasoning_budget_tokens"), NUMBER
    ),
    **dict.fromkeys(("return_progress", "timings_per_token", "ignore_eos", "backend_sampling"), BOOLEAN),
}
_CHAT: Fields = {
    "tools": OBJECTS,
    "tool_choice": TEXT_OR_OBJECT,
    "chat_template_kwargs": OBJECT,
    "reasoning_format": GIVEN_TEXT,
}
_RESPONSES: Fields = _CHAT | {"instructions": TEXT, "text": OBJECT, "reasoning": OBJECT}
_MESSAGES: Fields = {
    "messages": OBJECTS,
    "system": TEXT_OR_OBJECTS,
    "tools": OBJECTS,
    "tool_choice": OBJECT,
    "thinking": OBJECT,
}

_EMBEDDINGS: Fields = {"content": PROMPTS, "input": PROMPTS, "encoding_format": ENCODING, "embd_normalize": NUMBER}
_RERANK: Fields = {
    "query": GIVEN_TEXT,
    "documents": GIVEN_TEXTS,
    "texts": GIVEN_TEXTS,
    "top_n": NUMBER,
    "return_text": BOOLEAN,
}
_INFILL: Fields = {"input_prefix": MIXED, "input_suffix": MIXED, "input_extra": CODE, "prompt": TEXT}

#: The types of each kind's fields.
FIELD_TYPES: Mapping[Kind, Fields] = {
    COMPLETION: _SAMPLING,
    INFILL: _SAMPLING | _INFILL,
    OPENAI_COMPLETION: _SAMPLING,
    CHAT: _SAMPLING | _CHAT | {"top_logprobs": NUMBER, "max_completion_tokens": NUMBER},
    COUNT_CHAT: _CHAT,
    RESPONSES: _SAMPLING | _RESPONSES | {"max_output_tokens": NUMBER},
    COUNT_RESPONSES: _RESPONSES,
    MESSAGES: _SAMPLING | _MESSAGES | {"stop_sequences": TEXT_OR_TEXTS},
    COUNT_MESSAGES: _MESSAGES,
    TOKENIZE: {"content": MIXED} | dict.fromkeys(("add_special", "parse_special", "with_pieces"), BOOLEAN),
    DETOKENIZE: {"tokens": GIVEN_TOKENS},
    APPLY_TEMPLATE: _CHAT | {"messages": OBJECTS._replace(nullable=False)},
    EMBEDDINGS: _EMBEDDINGS,
    OPENAI_EMBEDDINGS: _EMBEDDINGS,
    RERANK: _RERANK,
}
_NONE: Fields = {}
#: The kinds whose messages are OpenAI's, and the fields of one that must be texts.
_CHATS = frozenset({CHAT, COUNT_CHAT, APPLY_TEMPLATE})
_MESSAGE_TEXTS = ("name", "reasoning_content", "tool_call_id")


def check_types(kind: Kind, body: dict[str, Any]) -> None:
    """Raise InvalidField, with its path, for a field of another type than the engine reads on this route."""
    fields = FIELD_TYPES.get(kind, _NONE)
    for name, value in body.items():
        known = fields.get(name)
        if known is None or (value is None and known.nullable):
            continue
        if not known.fits(value):
            raise InvalidField(name, f"must be {known.words}")
    if kind is OPENAI_COMPLETION and "prompt" not in body:
        raise InvalidField("prompt", "is required: a string, or a list of token ids")
    if kind is CHAT or kind is COUNT_CHAT:
        _check_response_schema(body.get("response_format"))
    if kind in _CHATS:
        _check_chat(body.get("messages"))
    elif kind is MESSAGES or kind is COUNT_MESSAGES:
        _check_contents(body.get("messages"))


def _check_response_schema(output: Any) -> None:
    """Refuse ``response_format`` of type ``json_schema`` without a schema: the engine would answer anything."""
    if not isinstance(output, dict) or output.get("type") != "json_schema":
        return
    wrapper = output.get("json_schema")
    if not isinstance(wrapper, dict):
        raise InvalidField("response_format.json_schema", "must be an object with a 'schema'")
    if wrapper.get("schema") is None:
        raise InvalidField("response_format.json_schema.schema", "must be a JSON schema, which is an object")


def _check_chat(messages: Any) -> None:
    """Refuse texts of a chat's messages that are none. What has another form than a message is left to the engine."""
    for number, message in enumerate(messages if isinstance(messages, list) else ()):
        if not isinstance(message, dict):
            continue
        path = f"messages[{number}]"
        if "role" in message and not isinstance(message["role"], str):
            raise InvalidField(f"{path}.role", "must be a string")
        for name in _MESSAGE_TEXTS:
            if not isinstance(message.get(name), str | None):
                raise InvalidField(f"{path}.{name}", "must be a string")
        parts = message.get("content")
        for index, part in enumerate(parts if isinstance(parts, list) else ()):
            if isinstance(part, dict) and part.get("type") == "text" and not isinstance(part.get("text"), str):
                raise InvalidField(f"{path}.content[{index}].text", "must be a string")


def _check_contents(messages: Any) -> None:
    """Refuse contents of Anthropic's messages that are neither text nor a list of objects."""
    for number, message in enumerate(messages or ()):
        content = message.get("content")
        if content is not None and not TEXT_OR_OBJECTS.fits(content):
            raise InvalidField(f"messages[{number}].content", f"must be {TEXT_OR_OBJECTS.words}")
