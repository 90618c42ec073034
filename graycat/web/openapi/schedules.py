"""What the OpenAPI document says of schedules."""

from __future__ import annotations

from typing import Any

from graycat.schedules.definition import FIELDS, OVERLAPS
from graycat.schedules.due import MAX_JITTER_S, MISSED_POLICIES
from graycat.web.api.schedules import MOST_NEXT, RUN, USUAL_NEXT
from graycat.web.openapi.components import JSON, VIEW_ERRORS, errors

_SCHEDULE = {"$ref": "#/components/schemas/Schedule"}
_TEXT = {"type": "string"}
_BODY: dict[str, dict[str, Any]] = {
    "name": _TEXT | {"description": "1 to 64 letters, digits, dots, dashes, underscores."},
    "cron": _TEXT | {"description": "Minute, hour, day, month, weekday; or @hourly, @daily, @weekly, @monthly."},
    "timezone": _TEXT | {"description": "Such as Europe/Berlin; the usual is UTC."},
    "spec": {"type": "object", "description": "The batch that is submitted, as POST /batches takes it."},
    "missed": {
        "enum": list(MISSED_POLICIES),
        "description": "What to do with times that passed while no scheduler was running.",
    },
    "overlap": {"enum": list(OVERLAPS), "description": "What happens while the last batch is not over."},
    "jitter_s": {"type": "integer", "minimum": 0, "maximum": MAX_JITTER_S, "description": "Start up to so much later."},
    "window": {"type": ["string", "null"], "description": "Hours in which its batches run, as 01:00-06:00."},
    "max_gpus": {"type": ["integer", "null"], "description": "GPUs that its batches use at once."},
}
_OWNER = {"name": "owner", "in": "query", "schema": _TEXT, "description": "Another API token's name; admins only."}
_COUNT = {
    "name": "count", "in": "query", "description": "How many times.",
    "schema": {"type": "integer", "minimum": 1, "maximum": MOST_NEXT, "default": USUAL_NEXT},
}  # fmt: skip
_RUN = {
    "name": "Idempotency-Key", "in": "header", "schema": _TEXT | {"pattern": f"^{RUN.pattern}$"},
    "description": "The same key again is the same batch.",
}  # fmt: skip


def _told(description: str, schema: dict[str, Any] = _SCHEDULE) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"schema": schema}}}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _keeps(*required: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": _BODY, "required": list(required), "additionalProperties": False}
    return {
        "parameters": [_OWNER],
        "requestBody": {"required": True, "content": {JSON: {"schema": schema}}},
        "responses": {"200": _told("The schedule, which was there."), "201": _told("The schedule, which is new.")}
        | errors((400, 409, 413, *VIEW_ERRORS)),
    }


def _shows(
    description: str, *parameters: dict[str, Any], schema: dict[str, Any] = _SCHEDULE, also: tuple[int, ...] = ()
) -> dict[str, Any]:
    return {
        "parameters": [_OWNER, *parameters],
        "responses": {"200": _told(description, schema)} | errors((*also, *VIEW_ERRORS)),
    }


_MOMENT = _TEXT | {"format": "date-time"}
_TIMES = _object(timezone=_TEXT, times={"type": "array", "items": _object(time=_MOMENT, starts=_MOMENT)})
_OPERATIONS: dict[str, dict[str, Any]] = {
    "schedules.add": _keeps("name", "cron", "spec"),
    "schedules.put": _keeps("cron", "spec"),
    "schedules.listing": _shows("The schedules.", schema=_object(schedules={"type": "array", "items": _SCHEDULE})),
    "schedules.show": _shows("The schedule."),
    "schedules.coming": _shows("The coming times.", _COUNT, schema=_TIMES, also=(400,)),
    "schedules.pause": _shows("The schedule, paused."),
    "schedules.resume": _shows("The schedule, which fires again."),
    "schedules.run": _shows(
        "The batch's id; Location has its address.", _RUN, schema=_object(batch=_TEXT), also=(400, 409)
    ),
    "schedules.remove": _shows("The name of what was removed.", schema=_object(removed=_TEXT), also=(409,)),
}


def operation(endpoint: str) -> dict[str, Any]:
    """Return what a schedule route takes and answers; empty for any other endpoint."""
    told = _OPERATIONS.get(endpoint)
    return {"tags": ["schedules"], **told} if told else {}


def schemas() -> dict[str, Any]:
    """Return the schemas that the schedule routes refer to."""
    properties = {name: _BODY[name] for name in FIELDS} | {"owner": _TEXT, "source": {"enum": ["api", "file"]}}
    properties |= {"paused": {"type": "boolean"}, "last_batch": _TEXT, "waiting": {"type": "integer"}}
    properties |= {"next": {"type": ["string", "null"]}, "fires": {"type": "array", "items": {"type": "object"}}}
    return {"Schedule": {"type": "object", "properties": properties, "required": ["name", "cron", "timezone", "spec"]}}
