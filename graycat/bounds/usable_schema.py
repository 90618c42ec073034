"""JSON schemas that llama.cpp would drop as a whole, and then answer as if there were none.

On chats it refuses such a schema; on its own routes (build 11549) it does not. So they are looked at here, where the
engine would read them: a reference that leads nowhere, a type that there is not, an ``enum`` without values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from graycat.bounds.budget import Place, name_place
from graycat.bounds.schema import find_definitions, resolve
from graycat.errors import RequestError

_TYPES = frozenset({"string", "number", "integer", "boolean", "null", "array", "object"})
#: Keywords that hold one schema, a list of them, and schemas by name. ``items`` may be either of the first two.
_ONE, _MANY = ("items", "additionalProperties"), ("items", "prefixItems", "anyOf", "oneOf", "allOf")


def check_usable(schema: Any, place: Place) -> None:
    """Raise RequestError, with the path, for a schema that an engine cannot turn into a grammar."""
    if schema is True:
        # Anything, which is what the engine makes of it.
        return
    if not isinstance(schema, dict):
        raise RequestError(f"{name_place(place)} must be a JSON schema that an answer can fit, which is an object")
    followed: set[str] = set()
    definitions: dict[str, Any] | None = None
    waiting: list[tuple[dict[str, Any], Place]] = [(schema, place)]
    while waiting:
        part, where = waiting.pop()
        _check_words(part, where)
        reference = part.get("$ref")
        if isinstance(reference, str) and _can_be_followed(reference, schema, is_root=part is schema):
            if definitions is None:
                definitions = find_definitions(schema)
            target = resolve(schema, reference, definitions)
            if not isinstance(target, dict):
                raise RequestError(
                    f"{name_place((where, '$ref'))} is {reference[:100]!r}, which this schema does not have"
                )
            if reference not in followed:
                followed.add(reference)
                waiting.append((target, (where, "$ref")))
        waiting.extend(_parts(part, where))


def _can_be_followed(reference: str, schema: dict[str, Any], *, is_root: bool) -> bool:
    """Return whether it can be told here where a reference leads. Anchors, names with escapes and ids can not."""
    if reference == "#":
        # The whole schema once more, which is nothing at all if that is but this reference.
        return is_root
    if {"~", "%"} & set(reference) or "$id" in schema:
        return False
    return reference.startswith("#/") or not reference.startswith("#")


def _check_words(part: dict[str, Any], place: Place) -> None:
    kind = part.get("type")
    names = kind if isinstance(kind, list) else [kind]
    if kind is not None and not all(isinstance(name, str) and name in _TYPES for name in names):
        raise RequestError(f"{name_place((place, 'type'))} must be of {', '.join(sorted(_TYPES))}, or a list of these")
    low, high = part.get("minimum"), part.get("maximum")
    if _is_number(low) and _is_number(high) and low > high:  # type: ignore[operator]
        raise RequestError(f"{name_place((place, 'minimum'))} is above the maximum, so no answer can fit it")
    if "enum" in part and not (isinstance(part["enum"], list) and part["enum"]):
        raise RequestError(f"{name_place((place, 'enum'))} must be a list of at least one value")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _parts(schema: dict[str, Any], place: Place) -> Iterator[tuple[dict[str, Any], Place]]:
    """Yield the schemas in a schema that belong to its grammar, with their places; not those of definitions."""
    candidates: list[tuple[Any, Place]] = [(schema.get(keyword), (place, keyword)) for keyword in _ONE]
    for keyword in _MANY:
        if isinstance(schema.get(keyword), list):
            candidates += [(part, ((place, keyword), index)) for index, part in enumerate(schema[keyword])]
    properties = schema.get("properties")
    if isinstance(properties, dict):
        candidates += [(part, ((place, "properties"), name)) for name, part in properties.items()]
    for part, where in candidates:
        if isinstance(part, dict):
            yield part, where
