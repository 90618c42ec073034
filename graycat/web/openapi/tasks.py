"""The operations and schemas of the task routes in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from graycat.params import MAX_WAIT_S
from graycat.queue.kinds import LLM_KINDS, SD_KINDS
from graycat.queue.models import STATES
from graycat.web.api.task_requests import CHOSEN_ID, KINDS, MAX_DEADLINE_S, PRIORITIES
from graycat.web.api.tasks import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from graycat.web.openapi.components import JSON, VIEW_ERRORS, answer, errors

_TASK = {"$ref": "#/components/schemas/Task"}
_PAGE = {
    "type": "object",
    "properties": {"tasks": {"type": "array", "items": _TASK}, "next_cursor": {"type": ["string", "null"]}},
    "required": ["tasks", "next_cursor"],
}
_SECONDS = {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_DEADLINE_S}
_BODY: dict[str, dict[str, Any]] = {
    "kind": {
        "anyOf": [
            {"type": "string", "enum": list(KINDS)},
            {"type": "string", "pattern": "^sd\\.workflow/[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"},
        ],
        "description": "What to run; 'sd.workflow/NAME' is one of GET /workflows, which has the schema of its input.",
    },
    "input": {"type": "object", "description": "The body that the engine's own route accepts."},
    "priority": {
        "type": "string",
        "enum": list(PRIORITIES),
        "description": "A 'batch' task runs only when no interactive task waits.",
    },
    "queue_ttl_s": _SECONDS | {"description": "Expire the task if it has not started after this many seconds."},
    "exec_timeout_s": _SECONDS | {"description": "Stop the task if it runs longer than this many seconds."},
    "metadata": {
        "type": "object",
        "description": "The caller's own data; it is shown with the task and has no effect.",
    },
    "webhook": {"type": "object", "description": "Where the task's events are reported; see docs/webhooks.md."},
}


def _parameter(name: str, location: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": location, "description": description, "schema": {"type": "string"} | schema}


_KEY = _parameter(
    "Idempotency-Key",
    "header",
    "Repeating a request with the same key and body returns the same task.",
    pattern=f"^{CHOSEN_ID.pattern}$",
)
_PREFER_WAIT = _parameter("Prefer", "header", "'wait=N' answers when the task has ended, or after N seconds.")
_WAIT = _parameter(
    "wait", "query", "Answer when the task has ended, or after this many seconds.", type="number",
    minimum=0, maximum=MAX_WAIT_S,
)  # fmt: skip
_UNCHANGED = _parameter("If-None-Match", "header", "The ETag of the last answer: 304 if nothing has changed since.")
_MANY = {"style": "form", "explode": True}
#: More than can be submitted by name: calls of other APIs' routes are tasks, too.
_LISTED_KIND = {"anyOf": [{"enum": [*LLM_KINDS, *SD_KINDS]}, {"pattern": r"^sd\.workflow/."}]}
_LIST = [
    _parameter("state", "query", "Only tasks in one of these states.", type="array", items={"enum": list(STATES)})
    | _MANY,
    _parameter("kind", "query", "Only tasks of one of these kinds.", type="array", items=_LISTED_KIND) | _MANY,
    _parameter(
        "limit",
        "query",
        "How many tasks to return.",
        type="integer",
        minimum=1,
        maximum=MAX_PAGE_SIZE,
        default=DEFAULT_PAGE_SIZE,
    ),
    _parameter("owner", "query", "For admins: whose; NAME/* for the players of one, * for all."),
    _parameter("cursor", "query", "The 'next_cursor' of the page before."),
]
_EVENT_ID = {"pattern": "^[0-9]{1,19}(-[0-9]{1,19})?$"}
_EVENTS = [
    _parameter("format", "query", "Server-sent events, or one JSON object a line.", enum=["sse", "ndjson"]),
    _parameter("Last-Event-ID", "header", "Resume after this event.", **_EVENT_ID),
    _parameter("after", "query", "The same as Last-Event-ID, for clients that cannot set headers.", **_EVENT_ID),
]


def _response(description: str, schema: dict[str, Any] = _TASK) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"schema": schema}}}


def _submit(*parameters: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": _BODY, "required": ["kind", "input"], "additionalProperties": False}
    return {
        "parameters": list(parameters),
        "requestBody": {"required": True, "content": {JSON: {"schema": schema}}},
        "responses": _ACCEPTED | errors((400, 409, 413, *VIEW_ERRORS)),
    }


_KNOWN = "The task: it has ended, or it existed already."
_ACCEPTED = {"200": _response(_KNOWN), "202": _response("Accepted; Location has the task's address.")}
_CANCEL = {
    "responses": {"200": _response("The task; 'confirmed' is true if its engine has stopped.")}
    | errors((410, *VIEW_ERRORS))
}
_OPERATIONS: dict[str, dict[str, Any]] = {
    "tasks.submit": _submit(_KEY, _PREFER_WAIT),
    "tasks.put": _submit(_PREFER_WAIT),
    "tasks.show": {
        "parameters": [_WAIT, _UNCHANGED],
        "responses": {
            "200": _response("The task."),
            "304": {"description": "Nothing has changed; Retry-After says when to ask again."},
        }
        | errors((400, 410, *VIEW_ERRORS)),
    },
    "tasks.listing": {
        "parameters": _LIST,
        "responses": {"200": _response("A page of tasks, newest first.", _PAGE)} | errors((400, *VIEW_ERRORS)),
    },
    "tasks.cancel": _CANCEL,
    "tasks.cancel_post": _CANCEL,
    "tasks.retry": {"parameters": [_KEY], "responses": _ACCEPTED | errors((400, 409, 410, *VIEW_ERRORS))},
    "events.events": {
        "parameters": _EVENTS,
        "responses": answer(
            "text/event-stream", "application/x-ndjson", description="The events until the task's last."
        )
        | {"204": {"description": "The task has ended, and the caller has its last event already."}}
        | errors((400, 410, *VIEW_ERRORS)),
    },
}
_EXAMPLE = {
    "id": "example-1",
    "kind": "llm.completion",
    "state": "succeeded",
    "queue": "llm",
    "priority": "interactive",
    "attempt": 1,
    "submitted_ms": 1796013600009,
    "started_ms": 1796013600021,
    "finished_ms": 1796013600480,
    "status": 200,
    "result": {"content": " there was a cat.", "tokens_predicted": 6},
    "timings": {"queued_ms": 12, "run_ms": 459},
    "links": {"self": "/tasks/example-1", "events": "/tasks/example-1/events"},
}


def operation(endpoint: str) -> dict[str, Any]:
    """Return the operation of a task route; empty for any other endpoint."""
    if endpoint not in _OPERATIONS:
        return {}
    return _OPERATIONS[endpoint]


def schemas() -> dict[str, Any]:
    """Return the schemas that the task routes refer to."""
    numbers = ("attempt", "submitted_ms", "started_ms", "first_event_ms", "finished_ms", "size", "status")
    texts = ("id", "kind", "queue", "priority", "worker", "engine", "request_id", "retry_of", "owner")
    objects = ("metadata", "progress", "timings", "links", "webhook")
    properties: dict[str, Any] = {
        "state": {"type": "string", "enum": list(STATES)},
        **dict.fromkeys(texts, {"type": "string"}),
        **dict.fromkeys(numbers, {"type": "integer"}),
        **dict.fromkeys(objects, {"type": "object"}),
        "queue_position": {"type": "integer"},
        "eta_s": {"type": ["number", "null"]},
        "eta_reason": {"type": "string"},
        "events": {"type": "array", "items": {"type": "string"}},
        "confirmed": {"type": "boolean"},
        "input": {},
        "result": {},
        "partial_result": {},
        "error": {},
    }
    required = ["id", "kind", "state", "links", "timings"]
    return {"Task": {"type": "object", "properties": properties, "required": required, "examples": [_EXAMPLE]}}
