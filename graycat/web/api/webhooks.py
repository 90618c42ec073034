"""The secret with which receivers verify webhooks."""

from __future__ import annotations

from flask import Blueprint, g, jsonify
from flask.typing import ResponseReturnValue

from graycat.web.auth import token_auth
from graycat.web.services import services
from graycat.webhooks.webhook import owner_secret

bp = Blueprint("webhooks", __name__)


@bp.get("/webhooks/secret")
@token_auth.login_required
def secret() -> ResponseReturnValue:
    """Return the secret that signs the caller's webhooks, unless a webhook brings its own."""
    return jsonify(secret=owner_secret(services().settings, g.owner))
