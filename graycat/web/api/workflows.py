"""The list of operators' workflows."""

from __future__ import annotations

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from graycat.auth.tokens import SD
from graycat.fleet.workflows import workflows_in
from graycat.queue.kinds import WORKFLOW
from graycat.web.auth import scope_required, token_auth
from graycat.web.services import services

bp = Blueprint("workflows", __name__)


@bp.get("/workflows")
@token_auth.login_required
@scope_required(SD)
def listing() -> ResponseReturnValue:
    """List the operators' workflows: the kind of a task, and the schema of its input."""
    listed = []
    for name, entry in sorted(workflows_in(services().catalogs()).items()):
        listed.append({"name": name, "kind": f"{WORKFLOW.name}/{name}", "input": entry["input"]})
    return jsonify(workflows=listed)
