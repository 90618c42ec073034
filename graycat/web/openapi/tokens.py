"""The operations of the routes of API tokens in the OpenAPI document."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from graycat.auth import players
from graycat.auth.limits import Limits
from graycat.auth.minted import DEFAULT_OVERLAP_S, MAX_OVERLAP_S, MAX_TTL_S
from graycat.auth.tokens import SCOPES
from graycat.web.openapi.components import JSON, VIEW_ERRORS, errors

_TEXT: dict[str, Any] = {"type": "string"}
_NEW = {"$ref": "#/components/schemas/NewApiToken"}
_SCOPES = {"type": "array", "items": {"type": "string", "enum": list(SCOPES)}, "minItems": 1}
_LIMITS = {
    "type": "object",
    "properties": {field.name: {"type": "integer", "minimum": 1} for field in fields(Limits)},
    "additionalProperties": False,
    "description": "Without a number, there is no limit of the API token's own.",
}
_TOKENS = {
    "type": "object",
    "properties": {"tokens": {"type": "array", "items": {"$ref": "#/components/schemas/ApiToken"}}},
    "required": ["tokens"],
}
_MINTED_PLAYER = {
    "type": "object",
    "properties": {
        "token": _TEXT,
        "owner": _TEXT,
        "scopes": {"type": "array", "items": _TEXT},
        "limits": {"type": "object"},
        "expires_at": {"type": "integer", "description": "Seconds since 1970."},
    },
    "required": ["token", "owner", "expires_at"],
}
_MINE = {
    "type": "object",
    "properties": {
        "name": _TEXT,
        "scopes": {"type": "array", "items": _TEXT},
        "limits": {"type": "object"},
        "expires_at": {"type": ["integer", "null"], "description": "Seconds since 1970."},
    },
    "required": ["name", "scopes", "limits", "expires_at"],
}


def _ttl(smallest: int, largest: int, **more: Any) -> dict[str, Any]:
    return {"type": "integer", "minimum": smallest, "maximum": largest, "description": "Seconds."} | more


def _body(required: tuple[str, ...], **properties: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        schema["required"] = list(required)
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema}}}}


def _answer(status: int, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {str(status): {"description": description, "content": {JSON: {"schema": schema}}}}


_OPERATIONS: dict[str, dict[str, Any]] = {
    "tokens.mint": {
        **_body(("name",), name=_TEXT, scopes=_SCOPES, limits=_LIMITS, ttl_s=_ttl(1, MAX_TTL_S)),
        "responses": _answer(201, "The new API token, with its secret.", _NEW) | errors((400, 409, 413, *VIEW_ERRORS)),
    },
    "tokens.listing": {
        "responses": _answer(200, "The minted API tokens.", _TOKENS) | errors((400, *VIEW_ERRORS)),
    },
    "tokens.mine": {"responses": _answer(200, "The API token of the request.", _MINE) | errors((400, *VIEW_ERRORS))},
    "tokens.rotate": {
        **_body((), overlap_s=_ttl(0, MAX_OVERLAP_S, default=DEFAULT_OVERLAP_S)),
        "responses": _answer(200, "The API token, with its new secret.", _NEW) | errors((400, 409, 413, *VIEW_ERRORS)),
    },
    "tokens.revoke": {"responses": {"204": {"description": "It is revoked."}} | errors((400, *VIEW_ERRORS))},
    "tokens.mint_player": {
        **_body(
            ("player",),
            player=_TEXT | {"description": "Who plays: 1 to 64 printable characters, no blanks and colons."},
            ttl_s=_ttl(players.MIN_TTL_S, players.MAX_TTL_S, default=players.DEFAULT_TTL_S),
            scopes=_SCOPES,
            limits=_LIMITS,
        ),
        "responses": _answer(201, "The player's API token.", _MINTED_PLAYER) | errors((400, 413, *VIEW_ERRORS)),
    },
}


def operation(endpoint: str) -> dict[str, Any]:
    """Return the operation of a route of API tokens; empty for any other endpoint."""
    return _OPERATIONS.get(endpoint, {})
