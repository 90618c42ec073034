"""The types of fields in text requests: an engine leaves a wrong one out without a word, or answers in C++ words.

Tried field by field on llama.cpp build 11549. What it takes stays allowed: null for any field, a float for a count,
true or false for a number, one stop word as a string on each route. Fields outside the tables pass on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from graycat.errors import InvalidField
from graycat.queue.kinds import (
    CHAT,
    COMPLETION,
    COUNT_CHAT,
    COUNT_MESSAGES,
    COUNT_RESPONSES,
    DETOKENIZE,
    INFILL,
    MESSAGES,
    OPENAI_COMPLETION,
    RESPONSES,
    TOKENIZE,
    Kind,
)


class FieldType(NamedTuple):
    """What a field must be: the words for the caller, and the test."""

    words: str
    fits: Callable[[Any], bool]


def _is_list_of(value: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, list) and all(isinstance(entry, kind) for entry in value)


def _is_bias(value: Any) -> bool:
    """Return whether a value is an object, or a list of pairs. What a bias may be is left to the engine."""
    if isinstance(value, dict):
        return True
    return _is_list_of(value, list) and all(len(pair) == 2 for pair in value)


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
_CHAT: Fields = {"tools": OBJECTS, "tool_choice": TEXT_OR_OBJECT, "chat_template_kwargs": OBJECT}
_RESPONSES: Fields = _CHAT | {"instructions": TEXT, "text": OBJECT, "reasoning": OBJECT}
_MESSAGES: Fields = {
    "messages": OBJECTS,
    "system": TEXT_OR_OBJECTS,
    "tools": OBJECTS,
    "tool_choice": OBJECT,
    "thinking": OBJECT,
}

#: The types of each kind's fields.
FIELD_TYPES: Mapping[Kind, Fields] = {
    COMPLETION: _SAMPLING,
    INFILL: _SAMPLING,
    OPENAI_COMPLETION: _SAMPLING,
    CHAT: _SAMPLING | _CHAT | {"top_logprobs": NUMBER, "max_completion_tokens": NUMBER},
    COUNT_CHAT: _CHAT,
    RESPONSES: _SAMPLING | _RESPONSES | {"max_output_tokens": NUMBER},
    COUNT_RESPONSES: _RESPONSES,
    MESSAGES: _SAMPLING | _MESSAGES | {"stop_sequences": TEXT_OR_TEXTS},
    COUNT_MESSAGES: _MESSAGES,
    TOKENIZE: dict.fromkeys(("add_special", "parse_special", "with_pieces"), BOOLEAN),
    DETOKENIZE: {"tokens": TOKENS},
}
_NONE: Fields = {}


def check_types(kind: Kind, body: dict[str, Any]) -> None:
    """Raise InvalidField, with its path, for a field of another type than the engine reads on this route."""
    fields = FIELD_TYPES.get(kind, _NONE)
    for name, value in body.items():
        known = fields.get(name)
        if known is not None and value is not None and not known.fits(value):
            raise InvalidField(name, f"must be {known.words}")
    if kind is OPENAI_COMPLETION and "prompt" not in body:
        raise InvalidField("prompt", "is required: a string, or a list of token ids")
    if kind is CHAT or kind is COUNT_CHAT:
        _check_response_schema(body.get("response_format"))
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


def _check_contents(messages: Any) -> None:
    """Refuse contents of Anthropic's messages that are neither text nor a list of objects."""
    for number, message in enumerate(messages or ()):
        content = message.get("content")
        if content is not None and not TEXT_OR_OBJECTS.fits(content):
            raise InvalidField(f"messages[{number}].content", f"must be {TEXT_OR_OBJECTS.words}")
