"""What the OpenAPI document says of galleries."""

from __future__ import annotations

from typing import Any

from graycat.auth.signed_links import LONGEST_TTL_S, SHORTEST_TTL_S, USUAL_TTL_S
from graycat.batches.gallery.thumbnails import CONTENT_TYPE
from graycat.web.openapi.components import JSON, VIEW_ERRORS, answer, errors


def _query(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string"} | schema}


_SIGNED = [_query("expires", "Of a signed link."), _query("signature", "Of a signed link, in the place of a token.")]
_PAGE = _query("page", "A hundred images each.", type="integer", minimum=1)
_SECURITY: list[dict[str, list[str]]] = [{"token": []}, {"password": []}]
_TTL = {"type": "integer", "minimum": SHORTEST_TTL_S, "maximum": LONGEST_TTL_S, "default": USUAL_TTL_S}
_BODY = {"type": "object", "properties": {"ttl_s": _TTL}, "additionalProperties": False}


def _shows(*kinds: str, more: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    failures = errors((400, *VIEW_ERRORS))
    return {"parameters": [*_SIGNED, *more], "security": _SECURITY, "responses": answer(*kinds) | failures}


_IMAGES = ("image/png", "image/jpeg", "image/webp")
_NOT_MODIFIED = {"304": {"description": "It is the one that the caller has."}}
_OPERATIONS: dict[str, dict[str, Any]] = {
    "gallery.gallery": _shows("text/html", more=(_PAGE,)),
    "gallery.state": _shows(JSON, more=(_PAGE,)),
    "gallery.image": _shows(*_IMAGES),
    "gallery.small": _shows(CONTENT_TYPE),
    "gallery.all_images": _shows("application/zip"),
    "gallery.link": {
        "requestBody": {"required": False, "content": {JSON: {"schema": _BODY}}},
        "responses": answer(JSON) | errors((400, 413, *VIEW_ERRORS)),
    },
}
for _name in ("gallery.image", "gallery.small"):
    _OPERATIONS[_name]["responses"] |= _NOT_MODIFIED


def operation(endpoint: str) -> dict[str, Any]:
    """Return what a gallery's route takes and answers; empty for any other endpoint."""
    told = _OPERATIONS.get(endpoint)
    return {"tags": ["batches"], **told} if told else {}
