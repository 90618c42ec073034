"""The operations and schemas of the batch routes in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from graycat.batches.spec import options
from graycat.batches.spec.images import SEED_POLICIES
from graycat.batches.states import ITEM_STATES, STATES
from graycat.web.api.batches import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from graycat.web.api.task_requests import CHOSEN_ID
from graycat.web.openapi.components import JSON, VIEW_ERRORS, answer, errors

_BATCH = {"$ref": "#/components/schemas/Batch"}
_ITEM = {"$ref": "#/components/schemas/BatchItem"}
_OBJECT = {"type": "object"}
_LENGTH = {"type": ["number", "string"], "description": "Seconds, or a text such as 90s, 30m, 6h, 2d."}
_BODY: dict[str, dict[str, Any]] = {
    "name": {"type": "string", "maxLength": 100},
    "defaults": _OBJECT | {"description": "Fields of the engine's txt2img for every item."},
    "items": {
        "type": "array",
        "items": {"anyOf": [{"type": "string"}, _OBJECT]},
        "description": "One image each: a prompt, or an object with fields of the engine.",
    },
    "matrix": _OBJECT | {"description": "Lists of values by field ('size' is WxH): an image for each combination."},
    "prompts": _OBJECT
    | {"description": "A question to a text engine that writes the prompts: 'ask', 'count', and more."},
    "count": {"type": "integer", "minimum": 1, "description": "How many images of each item."},
    "seeds": _OBJECT | {"description": f"'policy' ({', '.join(SEED_POLICIES)}) and 'seed', for items without a seed."},
    "output": _OBJECT | {"description": f"{', '.join(options.OUTPUT_FIELDS)}: where the files go, and their names."},
    "webhook": _OBJECT | {"description": "Where the end of the batch is reported; see docs/webhooks.md."},
    "deadline": _LENGTH,
    "max_failures": {"type": "integer", "minimum": 0, "description": "The batch fails if more items than this fail."},
    "window": {"type": "string", "description": "Items start only at these times of day, such as 01:00-06:00."},
    "timezone": {"type": "string", "description": "The time zone of the window, and of dates in file names."},
    "max_gpus": {"type": "integer", "minimum": 1, "description": "How many items run at the same time."},
}


def _parameter(name: str, location: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": location, "description": description, "schema": {"type": "string"} | schema}


_KEY = _parameter(
    "Idempotency-Key",
    "header",
    "Repeating a request with the same key and spec returns the same batch.",
    pattern=f"^{CHOSEN_ID.pattern}$",
)
_DRY = _parameter("dry_run", "query", "Only show what the batch would make.", type="boolean")
_PAGES = [
    _parameter(
        "limit",
        "query",
        "How many to return.",
        type="integer",
        minimum=1,
        maximum=MAX_PAGE_SIZE,
        default=DEFAULT_PAGE_SIZE,
    ),
    _parameter("offset", "query", "How many to leave out first.", type="integer", minimum=0, default=0),
]
_STATE = _parameter("state", "query", "Only items in this state.", enum=list(ITEM_STATES))


def _response(description: str, schema: dict[str, Any] = _BATCH) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"schema": schema}}}


def _page(name: str, items: dict[str, Any]) -> dict[str, Any]:
    properties = {name: {"type": "array", "items": items}, "next_offset": {"type": ["integer", "null"]}}
    return {"type": "object", "properties": properties, "required": list(properties)}


_CONFLICT_ERRORS = errors((409, *VIEW_ERRORS))
_CHANGE = {"responses": {"200": _response("The batch as it is now.")} | _CONFLICT_ERRORS}
_OPERATIONS: dict[str, dict[str, Any]] = {
    "batches.submit": {
        "parameters": [_KEY, _DRY],
        "requestBody": {
            "required": True,
            "content": {
                JSON: {
                    "schema": {
                        "type": "object",
                        "properties": _BODY,
                        "required": ["name"],
                        "additionalProperties": False,
                    }
                }
            },
        },
        "responses": {
            "200": _response("The batch that has this key already; with 'dry_run', what would be made.", _OBJECT),
            "201": _response("Accepted; Location has the batch's address."),
        }
        | errors((400, 409, 413, *VIEW_ERRORS)),
    },
    "batches.listing": {
        "parameters": _PAGES,
        "responses": {"200": _response("Batches, newest first.", _page("batches", _BATCH))}
        | errors((400, *VIEW_ERRORS)),
    },
    "batches.show": {"responses": {"200": _response("The batch.")} | errors(VIEW_ERRORS)},
    "batches.document": {"responses": {"200": _response("The spec.", _OBJECT)} | errors(VIEW_ERRORS)},
    "batches.items": {
        "parameters": [_STATE, *_PAGES],
        "responses": {"200": _response("Items, by number.", _page("items", _ITEM))} | errors((400, *VIEW_ERRORS)),
    },
    "batches.image": {
        "responses": answer("image/png", "image/jpeg", "image/webp")
        | {"304": {"description": "The image that If-None-Match names is still current."}}
        | errors(VIEW_ERRORS)
    },
    "batches.manifest": {"responses": answer("application/x-ndjson") | errors(VIEW_ERRORS)},
    "batches.pause": _CHANGE,
    "batches.resume": _CHANGE,
    "batches.cancel": _CHANGE,
    "batches.cancel_post": _CHANGE,
    "batches.retry_failed": _CHANGE,
}


def operation(endpoint: str) -> dict[str, Any]:
    """Return the operation of a batch route; empty for any other endpoint."""
    if endpoint not in _OPERATIONS:
        return {}
    return _OPERATIONS[endpoint]


_BATCH_TEXTS = ("id", "name", "owner", "key", "schedule", "reason", "folder", "store", "window", "timezone")
_BATCH_INTEGERS = ("submitted_ms", "started_ms", "finished_ms", "max_gpus", "max_failures")


def schemas() -> dict[str, Any]:
    """Return the schemas that the batch routes refer to."""
    counts = {state: {"type": "integer"} for state in ITEM_STATES}
    batch: dict[str, Any] = {
        "state": {"type": "string", "enum": list(STATES)},
        "total": {"type": "integer"},
        **dict.fromkeys(_BATCH_TEXTS, {"type": "string"}),
        **dict.fromkeys(_BATCH_INTEGERS, {"type": ["integer", "null"]}),
        "progress": {"type": "object", "properties": counts},
        "links": _OBJECT,
        **dict.fromkeys(("eta_s", "gpu_s", "deadline_s"), {"type": ["number", "null"]}),
        "eta_reason": {"type": "string"},
    }
    item: dict[str, Any] = {
        "number": {"type": "integer"},
        "state": {"type": "string", "enum": list(ITEM_STATES)},
        **dict.fromkeys(("label", "prompt", "task_id", "file", "sha256"), {"type": "string"}),
        "seed": {"type": "integer"},
        "attempts": {"type": "integer"},
        "error": {"type": ["object", "null"]},
    }
    return {
        "Batch": {"type": "object", "properties": batch, "required": ["id", "name", "state", "total", "progress"]},
        "BatchItem": {"type": "object", "properties": item, "required": ["number", "state", "prompt", "seed"]},
    }
