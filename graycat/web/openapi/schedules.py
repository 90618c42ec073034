"""The operations and schemas of the schedule routes in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from graycat.schedules.definition import FIELDS, OVERLAPS
from graycat.schedules.due import MAX_JITTER_S, MISSED_POLICIES
from graycat.web.api.schedules import DEFAULT_NEXT_TIMES, MAX_NEXT_TIMES, RUN_KEY
from graycat.web.openapi.components import JSON, VIEW_ERRORS, errors

_SCHEDULE = {"$ref": "#/components/schemas/Schedule"}
_TEXT = {"type": "string"}
_BODY: dict[str, dict[str, Any]] = {
    "name": _TEXT | {"description": "1 to 64 letters, digits, dots, dashes, underscores."},
    "cron": _TEXT | {"description": "Minute, hour, day, month, weekday; or @hourly, @daily, @weekly, @monthly."},
    "timezone": _TEXT | {"description": "Such as Europe/Berlin; the default is UTC."},
    "spec": {"type": "object", "description": "The batch to submit, in the form of POST /batches."},
    "missed": {
        "enum": list(MISSED_POLICIES),
        "description": "What to do about times at which graycat was not running.",
    },
    "overlap": {"enum": list(OVERLAPS), "description": "What to do if the last batch has not ended yet."},
    "jitter_s": {
        "type": "integer",
        "minimum": 0,
        "maximum": MAX_JITTER_S,
        "description": "Start up to this many seconds later, at random.",
    },
    "window": {"type": ["string", "null"], "description": "Hours in which its batches run, such as 01:00-06:00."},
    "max_gpus": {"type": ["integer", "null"], "description": "How many GPUs its batches use at the same time."},
}
_OWNER = {"name": "owner", "in": "query", "schema": _TEXT, "description": "Another API token's name; admins only."}
_COUNT = {
    "name": "count", "in": "query", "description": "How many times to show.",
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_NEXT_TIMES, "default": DEFAULT_NEXT_TIMES},
}  # fmt: skip
_RUN_HEADER = {
    "name": "Idempotency-Key", "in": "header", "schema": _TEXT | {"pattern": f"^{RUN_KEY.pattern}$"},
    "description": "Repeating a request with the same key returns the same batch.",
}  # fmt: skip


def _response(description: str, schema: dict[str, Any] = _SCHEDULE) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"schema": schema}}}


def _object_schema(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _write_operation(*required: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": _BODY, "required": list(required), "additionalProperties": False}
    return {
        "parameters": [_OWNER],
        "requestBody": {"required": True, "content": {JSON: {"schema": schema}}},
        "responses": {"200": _response("The schedule; it existed already."), "201": _response("The new schedule.")}
        | errors((400, 409, 413, *VIEW_ERRORS)),
    }


def _read_operation(
    description: str, *parameters: dict[str, Any], schema: dict[str, Any] = _SCHEDULE, also: tuple[int, ...] = ()
) -> dict[str, Any]:
    return {
        "parameters": [_OWNER, *parameters],
        "responses": {"200": _response(description, schema)} | errors((400, *also, *VIEW_ERRORS)),
    }


_MOMENT = _TEXT | {"format": "date-time"}
_TIMES = _object_schema(timezone=_TEXT, times={"type": "array", "items": _object_schema(time=_MOMENT, starts=_MOMENT)})
_OPERATIONS: dict[str, dict[str, Any]] = {
    "schedules.add": _write_operation("name", "cron", "spec"),
    "schedules.put": _write_operation("cron", "spec"),
    "schedules.listing": _read_operation(
        "The schedules.", schema=_object_schema(schedules={"type": "array", "items": _SCHEDULE})
    ),
    "schedules.show": _read_operation("The schedule."),
    "schedules.next_times": _read_operation("The next times.", _COUNT, schema=_TIMES),
    "schedules.pause": _read_operation("The schedule, paused."),
    "schedules.resume": _read_operation("The schedule, resumed."),
    "schedules.run": _read_operation(
        "The batch's id; Location has its address.", _RUN_HEADER, schema=_object_schema(batch=_TEXT), also=(409,)
    ),
    "schedules.remove": _read_operation(
        "The name of the removed schedule.", schema=_object_schema(removed=_TEXT), also=(409,)
    ),
}


def operation(endpoint: str) -> dict[str, Any]:
    """Return the operation of a schedule route; empty for any other endpoint."""
    if endpoint not in _OPERATIONS:
        return {}
    return _OPERATIONS[endpoint]


def schemas() -> dict[str, Any]:
    """Return the schemas that the schedule routes refer to."""
    properties = {name: _BODY[name] for name in FIELDS} | {"owner": _TEXT, "source": {"enum": ["api", "file"]}}
    properties |= {"paused": {"type": "boolean"}, "last_batch": _TEXT, "waiting": {"type": "integer"}}
    properties |= {"next": {"type": ["string", "null"]}, "fires": {"type": "array", "items": {"type": "object"}}}
    return {"Schedule": {"type": "object", "properties": properties, "required": ["name", "cron", "timezone", "spec"]}}
