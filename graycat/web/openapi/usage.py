"""The operation of the usage route in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from graycat.usage.reader import DEFAULT_DAYS, MAX_DAYS
from graycat.web.openapi.components import JSON, VIEW_ERRORS, errors

_TEXT = {"type": "string"}
_DAY = _TEXT | {"format": "date"}
_COUNT = {"type": "integer", "minimum": 0}
_AMOUNTS: dict[str, dict[str, Any]] = {
    "requests": _COUNT | {"description": "Tasks that have ended, in whatever way."},
    "failed": _COUNT | {"description": "Of these, the failed and the expired."},
    "cancelled": _COUNT | {"description": "Of these, the cancelled."},
    "prompt_tokens": _COUNT | {"description": "Tokens that engines have read, those of a cached prompt among them."},
    "completion_tokens": _COUNT | {"description": "Tokens that engines have written."},
    "images": _COUNT | {"description": "Images that engines have made."},
    "gpu_seconds": {
        "type": "number",
        "minimum": 0,
        "description": "Seconds for which tasks had an engine, all attempts together; several may share an engine.",
    },
}


def _parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": description}


_PARAMETERS = [
    _parameter("from", _DAY, f"The first day (UTC); {DEFAULT_DAYS} days by default."),
    _parameter("to", _DAY, f"The last day, at most {MAX_DAYS} days in all; today by default."),
    _parameter("owner", _TEXT, "Another API token's name; admins only."),
]


def operation(endpoint: str) -> dict[str, Any]:
    """Return the operation of the usage route; empty for any other endpoint."""
    if endpoint != "usage.show":
        return {}
    content = {JSON: {"schema": {"$ref": "#/components/schemas/Usage"}}}
    responses = {"200": {"description": "The usage, the newest day first.", "content": content}}
    return {
        "parameters": _PARAMETERS,
        "responses": responses | errors((400, *VIEW_ERRORS)),
    }


def schemas() -> dict[str, Any]:
    """Return the schemas that the usage route refers to."""
    row = {"owner": _TEXT, "day": _DAY, "family": _TEXT | {"description": "llm or sd."}} | _AMOUNTS
    usage = {
        "from": _DAY,
        "to": _DAY,
        "rows": {"type": "array", "items": _object_schema(row)},
        "total": _object_schema(_AMOUNTS),
    }
    return {"Usage": _object_schema(usage)}


def _object_schema(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}
