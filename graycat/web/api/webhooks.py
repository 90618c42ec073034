"""What a receiver of webhooks needs to check them."""

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
    """Tell the secret that signs the caller's webhooks where they bring none of their own."""
    return jsonify(secret=owner_secret(services().settings, g.owner))
