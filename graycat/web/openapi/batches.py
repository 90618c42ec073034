"""What the OpenAPI document says of the batch routes."""

from __future__ import annotations

from typing import Any

from graycat.batches.spec import options
from graycat.batches.spec.images import SEED_POLICIES
from graycat.batches.states import ITEM_STATES, STATES
from graycat.web.api.batches import MAX_PAGE, PAGE
from graycat.web.api.task_requests import CHOSEN_ID
from graycat.web.openapi.components import JSON, VIEW_ERRORS, answer, errors

_BATCH = {"$ref": "#/components/schemas/Batch"}
_ITEM = {"$ref": "#/components/schemas/BatchItem"}
_OBJECT = {"type": "object"}
_LENGTH = {"type": ["number", "string"], "description": "Seconds, or a text such as 90s, 30m, 6h, 2d."}
_BODY: dict[str, dict[str, Any]] = {
    "name": {"type": "string", "maxLength": 100},
    "defaults": _OBJECT | {"description": "Fields of the engine's txt2img for every item."},
    "items": {"type": "array", "description": "Objects of the engine's fields, or prompts; an image each."},
    "matrix": _OBJECT | {"description": "Lists of values by field ('size' is WxH): an image for each combination."},
    "prompts": _OBJECT | {"description": "What a text engine is asked first: 'ask', 'count', and more."},
    "count": {"type": "integer", "minimum": 1, "description": "How many of each."},
    "seeds": _OBJECT | {"description": f"'policy' ({', '.join(SEED_POLICIES)}) and 'seed', for items that name none."},
    "output": _OBJECT | {"description": f"{', '.join(options.OUTPUT_FIELDS)}: where the files go, and their names."},
    "webhook": _OBJECT | {"description": "Who is told of the end; see docs/webhooks.md."},
    "deadline": _LENGTH,
    "max_failures": {"type": "integer", "minimum": 0, "description": "The batch fails where more items fail."},
    "window": {"type": "string", "description": "Items start at these times of day alone: 01:00-06:00."},
    "timezone": {"type": "string", "description": "Whose clock the window and dates in names go by."},
    "max_gpus": {"type": "integer", "minimum": 1, "description": "Items that are rendered at once."},
}


def _parameter(name: str, place: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": place, "description": description, "schema": {"type": "string"} | schema}


_KEY = _parameter(
    "Idempotency-Key", "header", "The same key and spec again are the same batch.", pattern=f"^{CHOSEN_ID.pattern}$"
)
_DRY = _parameter("dry_run", "query", "Tell what would be made, and make nothing.", type="boolean")
_PAGES = [
    _parameter("limit", "query", "How many.", type="integer", minimum=1, maximum=MAX_PAGE, default=PAGE),
    _parameter("offset", "query", "Behind how many.", type="integer", minimum=0, default=0),
]
_STATE = _parameter("state", "query", "Items in this state.", enum=list(ITEM_STATES))


def _told(description: str, schema: dict[str, Any] = _BATCH) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"schema": schema}}}


def _page(name: str, items: dict[str, Any]) -> dict[str, Any]:
    properties = {name: {"type": "array", "items": items}, "next_offset": {"type": ["integer", "null"]}}
    return {"type": "object", "properties": properties, "required": list(properties)}


_NOT_SO = errors((409, *VIEW_ERRORS))
_CHANGE = {"responses": {"200": _told("The batch as it is now.")} | _NOT_SO}
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
            "200": _told("The batch that has this key already; with 'dry_run', what would be made.", _OBJECT),
            "201": _told("Accepted; Location has the batch's address."),
        }
        | errors((400, 409, 413, *VIEW_ERRORS)),
    },
    "batches.listing": {
        "parameters": _PAGES,
        "responses": {"200": _told("Batches, newest first.", _page("batches", _BATCH))} | errors((400, *VIEW_ERRORS)),
    },
    "batches.show": {"responses": {"200": _told("The batch.")} | errors(VIEW_ERRORS)},
    "batches.document": {"responses": {"200": _told("The spec.", _OBJECT)} | errors(VIEW_ERRORS)},
    "batches.items": {
        "parameters": [_STATE, *_PAGES],
        "responses": {"200": _told("Items, by number.", _page("items", _ITEM))} | errors((400, *VIEW_ERRORS)),
    },
    "batches.image": {
        "responses": answer("image/png", "image/jpeg", "image/webp")
        | {"304": {"description": "The copy that If-None-Match names is this image still."}}
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
    """Return what a batch route takes and answers; empty for any other endpoint."""
    told = _OPERATIONS.get(endpoint)
    return {"tags": ["batches"], **told} if told else {}


def schemas() -> dict[str, Any]:
    """Return the schemas that the batch routes refer to."""
    texts = ("id", "name", "owner", "key", "schedule", "reason", "folder", "store", "window", "timezone")
    numbers = ("submitted_ms", "started_ms", "finished_ms", "max_gpus", "max_failures")
    batch: dict[str, Any] = {"state": {"type": "string", "enum": list(STATES)}, "total": {"type": "integer"}}
    batch |= {name: {"type": "string"} for name in texts} | {name: {"type": ["integer", "null"]} for name in numbers}
    counts = {state: {"type": "integer"} for state in ITEM_STATES}
    batch |= {"progress": {"type": "object", "properties": counts}, "links": _OBJECT}
    batch |= {name: {"type": ["number", "null"]} for name in ("eta_s", "gpu_s", "deadline_s")}
    item: dict[str, Any] = {"number": {"type": "integer"}, "state": {"type": "string", "enum": list(ITEM_STATES)}}
    item |= {name: {"type": "string"} for name in ("prompt", "task_id", "file", "sha256")}
    item |= {"seed": {"type": "integer"}, "attempts": {"type": "integer"}, "error": {"type": ["object", "null"]}}
    return {
        "Batch": {"type": "object", "properties": batch, "required": ["id", "name", "state", "total", "progress"]},
        "BatchItem": {"type": "object", "properties": item, "required": ["number", "state", "prompt", "seed"]},
    }
