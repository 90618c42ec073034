"""API tokens over REST: admins mint, list, rotate and revoke them; a game's server mints those of its players."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, g, jsonify
from flask.typing import ResponseReturnValue

from graycat import params
from graycat.auth.minted import DEFAULT_OVERLAP_S, Grant
from graycat.auth.tokens import ADMIN, ApiToken
from graycat.errors import RequestError
from graycat.web.auth import scope_required, token_auth
from graycat.web.compat.route import read_object
from graycat.web.services import services

bp = Blueprint("tokens", __name__)


def _secret_response(secret: str, view: dict[str, Any], status: int = 201) -> Response:
    """Return a new token with its secret, in a response that no cache may store."""
    response = jsonify({"token": secret} | view)
    response.status_code = status
    response.headers["Cache-Control"] = "no-store"
    return response


@bp.post("/tokens")
@token_auth.login_required
@scope_required(ADMIN)
def mint() -> ResponseReturnValue:
    """Mint an API token; only this answer ever contains its secret."""
    secret, minted = services().authenticator.mint(Grant.read(read_object()))
    return _secret_response(secret, minted.to_dict())


@bp.get("/tokens")
@token_auth.login_required
@scope_required(ADMIN)
def listing() -> ResponseReturnValue:
    """List the minted API tokens, without their secrets."""
    return jsonify(tokens=[minted.to_dict() for minted in services().authenticator.minted.all()])


@bp.get("/tokens/me")
@token_auth.login_required
def mine() -> ResponseReturnValue:
    """Show the API token that the request sends: its name, scopes, limits, and when it expires."""
    token: ApiToken = g.token
    response = jsonify(
        name=token.name, scopes=sorted(token.scopes), limits=token.limits.to_dict(), expires_at=token.expires_at
    )  # fmt: skip
    response.headers["Cache-Control"] = "no-store"
    return response


@bp.post("/tokens/<prefix>/rotate")
@token_auth.login_required
@scope_required(ADMIN)
def rotate(prefix: str) -> ResponseReturnValue:
    """Give a minted API token a new secret; the one before is accepted for ``overlap_s`` seconds more (a day)."""
    body = read_object()
    params.refuse_unknown(body, ("overlap_s",))
    overlap_s = body.get("overlap_s", DEFAULT_OVERLAP_S)
    if isinstance(overlap_s, bool) or not isinstance(overlap_s, int):
        raise RequestError("'overlap_s' must be a number of seconds")
    secret, minted = services().authenticator.minted.rotate(prefix, overlap_s)
    return _secret_response(secret, minted.to_dict(), status=200)


@bp.delete("/tokens/<prefix>")
@token_auth.login_required
@scope_required(ADMIN)
def revoke(prefix: str) -> ResponseReturnValue:
    """Revoke a minted API token, and the tokens of its players."""
    services().authenticator.minted.revoke(prefix)
    return Response(status=204)


@bp.post("/tokens/player")
@token_auth.login_required
def mint_player() -> ResponseReturnValue:
    """Mint a short-lived API token for one player, with no more rights than the caller's own."""
    secret, claims = services().authenticator.mint_player(g.token, read_object())
    return _secret_response(secret, claims.to_dict())
