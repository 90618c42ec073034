"""The operations of the image routes in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from graycat.queue.kinds import Kind
from graycat.web.compat import webui
from graycat.web.openapi.components import (
    ACCEPTED,
    ERROR,
    JSON,
    PREFER,
    TASK_ERRORS,
    VIEW_ERRORS,
    WEBUI_ERROR,
    answer,
    errors,
)
from graycat.web.openapi.gallery import SIGNED
from graycat.web.openapi.image_fields import BODIES

#: With 422: an engine may refuse a body that graycat accepts.
_IMAGE_TASK_ERRORS = (*TASK_ERRORS, 422)
_IMAGES = ("image/png", "image/jpeg", "image/webp", "image/avif")
_SKIP_IMAGE = {
    "name": "skip_current_image",
    "in": "query",
    "schema": {"type": "boolean"},
    "description": "Leave the preview out.",
}


def _endpoint(kind: Kind) -> str:
    return kind.name.replace("sd.", "sdapi.")


_IMAGE_CALLS = frozenset(_endpoint(kind) for kind, _, _ in webui.IMAGE_CALLS.values())
_ADMIN_CALLS = frozenset(_endpoint(kind) for kind, _ in webui.ADMIN_CALLS.values())


def operation(endpoint: str) -> dict[str, Any]:
    """Return the operation of an image route; empty for any other endpoint."""
    if endpoint.startswith("sdapi."):
        # WebUI clients send the API token as a password.
        common: dict[str, Any] = {
            "security": [{"token": []}, {"key": []}, {"password": []}],
        }
        return {**common, **_request_body(endpoint), **_webui_operation(endpoint)}
    if endpoint.startswith("images."):
        described = {**_request_body(endpoint), **_image_task_operation(_IMAGE_TASK_ERRORS, ERROR)}
        if endpoint != "images.generate_image":
            described["responses"]["200"]["content"]["text/event-stream"] = {}
        return described
    if endpoint == "workflows.listing":
        return {"responses": {**answer(JSON), **errors(VIEW_ERRORS)}}
    if endpoint == "task_images.image":
        unchanged = {"304": {"description": "The image that If-None-Match names is still current."}}
        responses = {**answer(*_IMAGES), **unchanged, **errors((410, *VIEW_ERRORS))}
        return {"parameters": list(SIGNED), "responses": responses}
    if endpoint == "task_images.preview":
        return {"responses": {**answer(*_IMAGES), **errors((410, *VIEW_ERRORS))}}
    return {}


def _webui_operation(endpoint: str) -> dict[str, Any]:
    if endpoint in _IMAGE_CALLS:
        return _image_task_operation(_IMAGE_TASK_ERRORS, WEBUI_ERROR)
    if endpoint in _ADMIN_CALLS:
        return {"responses": {**answer(JSON), **errors(_IMAGE_TASK_ERRORS, WEBUI_ERROR)}}
    statuses = [401, 403, 405, 500, 503]
    if endpoint in BODIES:
        statuses += [400, 413]
    operation: dict[str, Any] = {"responses": {**answer(JSON), **errors(tuple(statuses), WEBUI_ERROR)}}
    if endpoint == "sdapi.progress":
        operation["parameters"] = [_SKIP_IMAGE]
    return operation


def _image_task_operation(statuses: tuple[int, ...], schema: dict[str, str]) -> dict[str, Any]:
    return {"parameters": [PREFER], "responses": {**answer(JSON), **ACCEPTED, **errors(statuses, schema)}}


def _request_body(endpoint: str) -> dict[str, Any]:
    body = BODIES.get(endpoint)
    if body is None:
        return {}
    return {"requestBody": {"required": bool(body.fields), "content": {body.content: {"schema": body.schema()}}}}
