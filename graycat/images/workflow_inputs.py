"""The input of a task of an operator's workflow, checked against the schema that the worker of the engine reports.

A schema is JSON Schema of a flat object: texts, numbers, booleans, choices, and images as base64. Beyond that,
``x-input`` is the engine's own name of an input (``steps``), by which graycat's limits are applied.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from typing import Any

from graycat.errors import LimitExceeded, PromptTooLarge, RequestError
from graycat.images.decoding import decode_field
from graycat.images.errors import TooMuchWork
from graycat.images.places import holds_place
from graycat.settings import Settings

#: The form of a workflow's name, and of an input's.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
#: What marks an image, and a text that may hold anything.
IMAGE, TEXT = "base64", "text"
#: A choice that is not there: so many of those that are there are told.
MAX_TOLD = 10
_EMBEDDING = re.compile(r"embedding:([^\s,()]{1,300})")

Schema = Mapping[str, Any]


def check_input(schema: Schema, value: Any, settings: Settings, token_max_pixels: int | None = None) -> dict[str, Any]:
    """Return a workflow's input with its images decoded once and as bare base64. Raises RequestError, LimitExceeded.

    An input that is left out, or null, keeps the value that it has in the workflow.
    """
    properties: Mapping[str, Any] = schema.get("properties", {})
    _check_names(schema, properties, value)
    checked: dict[str, Any] = {}
    characters = 0
    for name, given in value.items():
        if given is None:
            continue
        checked[name] = _check(f"input.{name}", properties[name], given, settings)
        if isinstance(given, str) and properties[name].get("contentEncoding") != IMAGE:
            characters += len(given)
    if characters > settings.max_prompt_chars:
        raise PromptTooLarge(f"the texts of 'input' may have {settings.max_prompt_chars} characters")
    _check_work(properties, checked, settings, token_max_pixels)
    return checked


def _check_names(schema: Schema, properties: Mapping[str, Any], value: Any) -> None:
    """Raise RequestError for an input that there is not, or one that is missing."""
    if not isinstance(value, dict):
        raise RequestError("'input' must be a JSON object")
    for name in value:
        if name not in properties:
            raise RequestError(_unknown(name, properties))
    for name in schema.get("required", ()):
        if value.get(name) is None:
            raise RequestError(f"'input.{name}' is required: {_describe(properties[name])}")


def _unknown(name: str, properties: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name[:100], list(properties), 1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(properties) or 'none'}"
    return f"'input.{name[:100]}': the workflow has no such input{hint}"


def _describe(schema: Schema) -> str:
    if schema.get("contentEncoding") == IMAGE:
        return "an image in base64"
    return f"a value of the type {schema.get('type', 'string')}"


def _check(path: str, schema: Schema, value: Any, settings: Settings) -> Any:
    """Return a value as the workflow takes it. Raises RequestError."""
    if schema.get("contentEncoding") == IMAGE:
        return decode_field(path, value, settings).base64
    kind = schema.get("type")
    if kind == "boolean":
        if not isinstance(value, bool):
            raise RequestError(f"{path!r} must be true or false")
        return value
    if kind in ("integer", "number"):
        value = _check_number(path, schema, value)
    elif "enum" not in schema:
        _check_text(path, schema, value)
    choices = schema.get("enum")
    if choices is not None and value not in choices:
        told = ", ".join(repr(choice) for choice in choices[:MAX_TOLD]) or "none"
        more = f" and {len(choices) - MAX_TOLD} more" if len(choices) > MAX_TOLD else ""
        raise RequestError(f"{path!r} must be one of {told}{more}")
    return value


def _check_number(path: str, schema: Schema, value: Any) -> Any:
    """Return a number; a whole one may be written as 2.0. Text is no number, and true is none."""
    whole = schema["type"] == "integer"
    least, most = schema.get("minimum"), schema.get("maximum")
    bounds = ""
    if least is not None and most is not None:
        bounds = f", {least} to {most}"
    problem = RequestError(f"{path!r} must be a {'whole ' if whole else ''}number{bounds}")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise problem
    if isinstance(value, float) and not math.isfinite(value):
        raise problem
    if whole:
        if int(value) != value:
            raise problem
        value = int(value)
    if (least is not None and value < least) or (most is not None and value > most):
        raise problem
    return value


def _check_text(path: str, schema: Schema, value: Any) -> None:
    if not isinstance(value, str):
        raise RequestError(f"{path!r} must be a string")
    if schema.get("format") != TEXT and holds_place(value):
        raise RequestError(f"{path!r} may hold no file paths and no addresses")
    for name in _EMBEDDING.findall(value):
        if holds_place(name) or ":" in name:
            raise RequestError(f"{path!r}: 'embedding:' must name an embedding that the engine lists, not a path")


def _check_work(
    properties: Mapping[str, Any], checked: Mapping[str, Any], settings: Settings, token_max_pixels: int | None
) -> None:
    """Raise TooMuchWork for more pixels than a request may ask for, LimitExceeded if it is the API token's limit.

    Only sizes that are inputs count: those that an operator has fixed in the workflow are the operator's choice.
    """
    sizes: dict[str, int] = {}
    for name, schema in properties.items():
        role = schema.get("x-input")
        number = checked.get(name, schema.get("default"))
        if role in ("width", "height", "batch_size") and isinstance(number, (int, float)):
            sizes[role] = max(sizes.get(role, 1), int(number))
    if "width" not in sizes or "height" not in sizes:
        return
    pixels = sizes["width"] * sizes["height"] * sizes.get("batch_size", 1)
    if pixels > settings.max_pixels:
        raise TooMuchWork(f"the images of a request may have {settings.max_pixels} pixels together, not {pixels}")
    if token_max_pixels is not None and pixels > token_max_pixels:
        raise LimitExceeded(
            f"this API token may ask for {token_max_pixels} pixels a request (max_pixels), not {pixels}"
        )
