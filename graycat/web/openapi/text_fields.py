"""The fields of text requests in the OpenAPI document. Engines accept many more; graycat passes all of them on."""

from __future__ import annotations

from typing import Any

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": -1}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_TEXTS = {"oneOf": [_TEXT, {"type": "array", "items": _TEXT}]}
_MEDIA = {"type": "object", "properties": {"prompt_string": _TEXT}, "required": ["prompt_string"]}
_OBJECTS = {"type": "array", "items": {"type": "object"}}

#: The JSON schema of each field, with its description.
FIELDS: dict[str, dict[str, Any]] = {
    "prompt": {
        "oneOf": [_TEXT, {"type": "array", "items": {"oneOf": [_TEXT, {"type": "integer"}]}, "minItems": 1}, _MEDIA],
        "description": "Text, token ids, a list of prompts, or an object with prompt_string and multimodal_data.",
    },
    "n_predict": _COUNT | {"description": "Maximum number of tokens to generate; -1: until the model ends."},
    "max_tokens": _COUNT | {"description": "Maximum number of tokens to generate."},
    "stream": {"type": "boolean", "description": "Server-sent events instead of one answer."},
    "temperature": {"type": "number", "description": "Randomness; 0 always chooses the most likely token."},
    "top_k": {
        "type": "integer",
        "minimum": 0,
        "maximum": 2**31 - 1,
        "description": "Only so many of the likeliest tokens are considered; 0: all.",
    },
    "top_p": _SHARE | {"description": "Only the likeliest tokens are considered that have this probability together."},
    "min_p": _SHARE | {"description": "Tokens less likely than this share of the likeliest one are left out."},
    "repeat_penalty": {
        "type": "number",
        "minimum": 0,
        "description": "Above 1, tokens that came already are less likely.",
    },
    "seed": {
        "type": "integer",
        "minimum": -1,
        "maximum": 2**32 - 1,
        "description": "The same seed draws the same answer again; -1: a random one.",
    },
    "stop": {"type": "array", "items": _TEXT, "description": "The answer ends before any of these texts."},
    "cache_prompt": {"type": "boolean", "description": "Reuse what the engine remembers of the last prompt."},
    "grammar": _TEXT | {"description": "A GBNF grammar that the answer follows."},
    "json_schema": {"type": "object", "description": "A JSON schema that the answer follows."},
    "messages": _OBJECTS | {"description": "The chat so far: objects with role and content."},
    "model": _TEXT | {"description": "One of GET /v1/models. Without it, any worker may answer."},
    "tools": _OBJECTS | {"description": "Functions that the model may call."},
    "content": _TEXTS | {"description": "The text."},
    "input": _TEXTS | {"description": "A text, or a list of texts."},
    "tokens": {"type": "array", "items": {"type": "integer"}, "description": "Token ids."},
    "input_prefix": _TEXT | {"description": "The code before the gap."},
    "input_suffix": _TEXT | {"description": "The code after the gap."},
    "query": _TEXT | {"description": "What the documents should answer."},
    "documents": {"type": "array", "items": _TEXT, "description": "The texts to order."},
}
