"""API tokens over HTTP: an admin mints, lists and revokes them; a game's server mints its players'."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, g, jsonify
from flask.typing import ResponseReturnValue

from graycat import params
from graycat.auth.authenticator import Authenticator
from graycat.auth.minted import Grant
from graycat.auth.tokens import ADMIN
from graycat.web.auth import scope_required, token_auth
from graycat.web.compat.route import read_raw
from graycat.web.services import services

bp = Blueprint("tokens", __name__)


def _credentials() -> Authenticator:
    found: Authenticator = services().tokens
    return found


def _once(secret: str, shown: dict[str, Any]) -> Response:
    """Return a new token's secret, which nobody may keep on the way."""
    response = jsonify({"token": secret} | shown)
    response.status_code = 201
    response.headers["Cache-Control"] = "no-store"
    return response


@bp.post("/tokens")
@token_auth.login_required
@scope_required(ADMIN)
def mint() -> ResponseReturnValue:
    """Make an API token; its secret is in this answer and nowhere else."""
    secret, minted = _credentials().mint(Grant.read(params.read_object(read_raw())))
    return _once(secret, minted.shown())


@bp.get("/tokens")
@token_auth.login_required
@scope_required(ADMIN)
def show_all() -> ResponseReturnValue:
    """List the API tokens that were minted, without their secrets."""
    return jsonify(tokens=[minted.shown() for minted in _credentials().minted.all()])


@bp.delete("/tokens/<prefix>")
@token_auth.login_required
@scope_required(ADMIN)
def revoke(prefix: str) -> ResponseReturnValue:
    """Take an API token away, and its players' with it."""
    _credentials().minted.revoke(prefix)
    return Response(status=204)


@bp.post("/tokens/player")
@token_auth.login_required
def mint_player() -> ResponseReturnValue:
    """Make a short-lived API token for one player, which can do no more than the caller's own."""
    secret, claims = _credentials().mint_player(g.token, params.read_object(read_raw()))
    return _once(secret, claims.shown())
