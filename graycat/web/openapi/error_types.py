"""The types of errors by status and by group of operations, as the OpenAPI document lists them.

``docs/errors.md`` says of each what to do. Errors that every route may answer at any time, and that say nothing about
the route (a broken connection, a proxy, a stop), are there alone.
"""

from __future__ import annotations

from typing import Any

from graycat.web.openapi.components import JSON
from graycat.web.openapi.groups import BATCHES, CHAT, GAMES, IMAGES, OPERATORS, SCHEDULES, TASKS, WEBUI

_ALL = frozenset({GAMES, CHAT, TASKS, IMAGES, WEBUI, BATCHES, SCHEDULES, OPERATORS})
_RUNS = frozenset({GAMES, CHAT, TASKS, IMAGES, WEBUI})
_TEXTS = frozenset({GAMES, CHAT, TASKS})
_PICTURES = frozenset({TASKS, IMAGES, WEBUI})
_TASKS, _BATCHES = frozenset({TASKS}), frozenset({BATCHES})
_SCHEDULES, _OPERATORS = frozenset({SCHEDULES}), frozenset({OPERATORS})

#: Status, type, and the groups whose operations answer it. Within a status, what happens most often comes first.
TYPES: tuple[tuple[int, str, frozenset[str]], ...] = (
    (400, "invalid_batch", _BATCHES),
    (400, "invalid_schedule", _SCHEDULES),
    (400, "invalid_request_error", _ALL),
    (400, "unsupported_parameter", _RUNS),
    (400, "too_complex", _RUNS),
    (400, "invalid_image", _PICTURES),
    (400, "too_much_work", _PICTURES),
    (400, "unknown_name", _PICTURES),
    (400, "prompt_parameter", _PICTURES),
    (400, "setting_not_allowed", _PICTURES),
    (400, "script_not_allowed", _PICTURES),
    (400, "invalid_webhook", frozenset({TASKS, BATCHES})),
    (400, "event_unknown", _TASKS),
    (401, "authentication_error", _ALL),
    (401, "token_unknown", _ALL),
    (401, "token_expired", _ALL),
    (401, "token_revoked", _ALL),
    (403, "permission_error", _ALL),
    (404, "task_not_found", _TASKS),
    (404, "batch_not_found", _BATCHES),
    (404, "batch_item_not_found", _BATCHES),
    (404, "schedule_not_found", _SCHEDULES),
    (404, "token_not_found", _OPERATORS),
    (404, "worker_not_found", _OPERATORS),
    (404, "queue_not_found", _OPERATORS),
    (404, "model_not_found", _RUNS),
    (404, "workflow_not_found", _TASKS),
    (404, "not_found_error", _ALL),
    (405, "method_not_allowed", _ALL),
    (409, "idempotency_conflict", _TASKS),
    (409, "not_retryable", _TASKS),
    (409, "workflow_unavailable", _TASKS),
    (409, "batch_conflict", _BATCHES),
    (409, "wrong_batch_state", _BATCHES),
    (409, "schedule_exists", _SCHEDULES),
    (409, "token_name_taken", _OPERATORS),
    (409, "rotation_under_way", _OPERATORS),
    (409, "worker_refused", _OPERATORS),
    (410, "task_gone", _TASKS),
    (410, "events_gone", _TASKS),
    (413, "body_too_large", _ALL),
    (413, "prompt_too_large", _TEXTS),
    (413, "grammar_too_large", _TEXTS),
    (413, "image_too_large", _PICTURES),
    (429, "limit_exceeded", _ALL),
    (429, "stored_bytes_exceeded", _RUNS | _BATCHES),
    (429, "too_many_batches", _BATCHES),
    (429, "too_many_schedules", _SCHEDULES),
    (499, "task_cancelled", _RUNS),
    (500, "server_error", _ALL),
    (501, "kind_unknown", _RUNS),
    (502, "engine_lost", _RUNS),
    (502, "engine_nonsense", _RUNS),
    (502, "engine_killed", _RUNS),
    (502, "task_lost", _RUNS),
    (503, "unavailable_error", _RUNS),
    (503, "queue_full", _RUNS),
    (503, "task_expired", _RUNS),
    (503, "broker_unavailable", _ALL),
    (503, "broker_full", _RUNS | _BATCHES),
    (503, "output_unavailable", _BATCHES),
    (503, "artifacts_unavailable", _PICTURES),
    (504, "task_timeout", _RUNS),
    (504, "worker_silent", _OPERATORS),
)


def types_of(status: int, group: str) -> list[str]:
    """Return the types of a status that operations of a group answer."""
    return [name for code, name, groups in TYPES if code == status and group in groups]


def add(group: str, responses: dict[str, Any]) -> None:
    """Name the types in the responses of an operation of a group, and show the first as an example."""
    for status, response in responses.items():
        names = types_of(int(status), group)
        media = response.get("content", {}).get(JSON)
        if not names or media is None:
            continue
        message = response["description"]
        response["description"] = f"`{'`, `'.join(names)}`: {message[0].lower()}{message[1:]}"
        if media.get("schema", {}).get("$ref", "").endswith("/Error"):
            media["example"] = {"error": {"code": int(status), "message": message, "type": names[0]}}
