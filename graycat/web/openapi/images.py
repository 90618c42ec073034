"""What the OpenAPI document says of the image routes."""

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
from graycat.web.openapi.image_fields import BODIES

#: An engine's refusal of a body that graycat takes.
_RENDER_ERRORS = (*TASK_ERRORS, 422)
_IMAGES = ("image/png", "image/jpeg", "image/webp")
_SKIP_IMAGE = {
    "name": "skip_current_image",
    "in": "query",
    "schema": {"type": "boolean"},
    "description": "Leave the preview out.",
}


def _endpoint(kind: Kind) -> str:
    return kind.name.replace("sd.", "sdapi.")


_RENDERS = frozenset(_endpoint(kind) for kind, _, _ in webui.RENDERS.values())
_CHANGES = frozenset(_endpoint(kind) for kind, _ in webui.CHANGES.values())


def operation(endpoint: str) -> dict[str, Any]:
    """Return what an image route takes and answers; empty for any other endpoint."""
    if endpoint.startswith("sdapi."):
        # What WebUI clients can send beside a bearer token.
        told: dict[str, Any] = {"tags": ["Stable Diffusion WebUI"], "security": [{"token": []}, {"password": []}]}
        return {**told, **_request_body(endpoint), **_webui(endpoint)}
    if endpoint.startswith("images."):
        return {"tags": ["images"], **_request_body(endpoint), **_render(_RENDER_ERRORS, ERROR)}
    if endpoint == "task_images.image":
        unchanged = {"304": {"description": "The copy that If-None-Match names is this image still."}}
        return {"tags": ["graycat"], "responses": {**answer(*_IMAGES), **unchanged, **errors((400, 410, *VIEW_ERRORS))}}
    if endpoint == "task_images.preview":
        return {"tags": ["graycat"], "responses": {**answer(*_IMAGES), **errors((410, *VIEW_ERRORS))}}
    return {}


def _webui(endpoint: str) -> dict[str, Any]:
    if endpoint in _RENDERS:
        return _render(_RENDER_ERRORS, WEBUI_ERROR)
    if endpoint in _CHANGES:
        return {"responses": {**answer(JSON), **errors(_RENDER_ERRORS, WEBUI_ERROR)}}
    takes_body = (400, 413) if endpoint in BODIES else ()
    parameters = [_SKIP_IMAGE] if endpoint == "sdapi.progress" else []
    responses = {**answer(JSON), **errors((401, 403, 405, 500, 503, *takes_body), WEBUI_ERROR)}
    return {"parameters": parameters, "responses": responses}


def _render(statuses: tuple[int, ...], schema: dict[str, str]) -> dict[str, Any]:
    return {"parameters": [PREFER], "responses": {**answer(JSON), **ACCEPTED, **errors(statuses, schema)}}


def _request_body(endpoint: str) -> dict[str, Any]:
    body = BODIES.get(endpoint)
    if body is None:
        return {}
    return {"requestBody": {"required": bool(body.fields), "content": {body.content: {"schema": body.schema()}}}}
