"""The operations of the gallery routes in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from graycat.auth.signed_links import DEFAULT_TTL_S, MAX_TTL_S, MIN_TTL_S
from graycat.batches.gallery.thumbnails import CONTENT_TYPE
from graycat.web.openapi.components import JSON, VIEW_ERRORS, answer, errors


def _query(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string"} | schema}


#: The query of a signed link.
SIGNED = [
    _query("expires", "The expiry time of a signed link."),
    _query("signature", "The signature of a signed link; it replaces the API token."),
]
_PAGE = _query("page", "The number of the page; each has a hundred images.", type="integer", minimum=1)
_SECURITY: list[dict[str, list[str]]] = [{"token": []}, {"password": []}]
_TTL = {"type": "integer", "minimum": MIN_TTL_S, "maximum": MAX_TTL_S, "default": DEFAULT_TTL_S}
_BODY = {"type": "object", "properties": {"ttl_s": _TTL}, "additionalProperties": False}


def _read_operation(*content_types: str, parameters: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    failures = errors((400, *VIEW_ERRORS))
    return {
        "parameters": [*SIGNED, *parameters],
        "security": _SECURITY,
        "responses": answer(*content_types) | failures,
    }


_IMAGES = ("image/png", "image/jpeg", "image/webp")
_NOT_MODIFIED = {"304": {"description": "The image that If-None-Match names is still current."}}
_OPERATIONS: dict[str, dict[str, Any]] = {
    "gallery.gallery": _read_operation("text/html", parameters=(_PAGE,)),
    "gallery.state": _read_operation(JSON, parameters=(_PAGE,)),
    "gallery.image": _read_operation(*_IMAGES),
    "gallery.thumbnail": _read_operation(CONTENT_TYPE),
    "gallery.all_images": _read_operation("application/zip"),
    "gallery.sign_link": {
        "requestBody": {"required": False, "content": {JSON: {"schema": _BODY}}},
        "responses": answer(JSON) | errors((400, 413, *VIEW_ERRORS)),
    },
}
for _name in ("gallery.image", "gallery.thumbnail"):
    _OPERATIONS[_name]["responses"] |= _NOT_MODIFIED


def operation(endpoint: str) -> dict[str, Any]:
    """Return the operation of a gallery route; empty for any other endpoint."""
    if endpoint not in _OPERATIONS:
        return {}
    return _OPERATIONS[endpoint]
