"""What API tokens have used, over REST."""

from __future__ import annotations

from flask import Blueprint, g, jsonify, request
from flask.typing import ResponseReturnValue

from graycat.auth.tokens import ADMIN
from graycat.errors import Forbidden
from graycat.usage.amounts import add_up
from graycat.usage.reader import UsageReader
from graycat.web.auth import token_auth
from graycat.web.services import services

bp = Blueprint("usage", __name__)


@bp.get("/usage")
@token_auth.login_required
def show() -> ResponseReturnValue:
    """Show what the API token and its players have used by day; an admin sees all, or the owner that it names."""
    owner = _choose_owner()
    reader = UsageReader(services().broker)
    first, last = reader.choose_days(request.args.get("from"), request.args.get("to"))
    rows = reader.read(first, last, owner)
    shown = {"from": first.isoformat(), "to": last.isoformat(), "rows": [row.to_dict() for row in rows]}
    return jsonify(shown | {"total": add_up(rows).to_dict()})


def _choose_owner() -> str | None:
    """Return whose usage the request is about; None for that of all. Raises Forbidden."""
    if g.token.parent is not None:
        raise Forbidden("a player's usage counts for the API token that made the player's: ask with that one")
    owner = request.args.get("owner")
    if owner is None:
        if g.token.admin:
            return None
        return str(g.owner)
    if owner != g.owner and not g.token.admin:
        raise Forbidden(f"the usage of other API tokens is shown to one with the scope {ADMIN!r}")
    return owner
