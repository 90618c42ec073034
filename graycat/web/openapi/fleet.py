"""The operations of workers and queues in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from graycat.web.api.fleet import MAX_LIMIT_S
from graycat.web.openapi.components import JSON, VIEW_ERRORS, answer, errors

_LIMIT = {
    "type": "number",
    "minimum": 0,
    "maximum": MAX_LIMIT_S,
    "description": "Seconds that the tasks which run may take; without it, as long as they need.",
}
_DRAIN_BODY = {"type": "object", "properties": {"limit_s": _LIMIT}, "additionalProperties": False}


def _operation(*more_errors: int) -> dict[str, Any]:
    return {"responses": answer(JSON) | errors((*more_errors, *VIEW_ERRORS))}


_OPERATIONS: dict[str, dict[str, Any]] = {
    "fleet.pause_queue": _operation(),
    "fleet.resume_queue": _operation(),
    "fleet.pause_worker": _operation(409, 504),
    "fleet.resume_worker": _operation(409, 504),
    "fleet.drain_worker": {
        "requestBody": {"required": False, "content": {JSON: {"schema": _DRAIN_BODY}}},
        **_operation(400, 409, 413, 504),
    },
}


def operation(endpoint: str) -> dict[str, Any]:
    """Return the operation of a route of workers or queues; empty for any other endpoint."""
    return _OPERATIONS.get(endpoint, {})
