"""The list of operators' workflows."""

from __future__ import annotations

from typing import Any

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
    """List the operators' workflows: the kind of a task, the schema of its input, and why one cannot run."""
    listed = []
    for name, offered in sorted(workflows_in(services().catalogs()).items()):
        entry: dict[str, Any] = {"name": name, "kind": f"{WORKFLOW.name}/{name}", "input": offered.input}
        entry["available"] = bool(offered.inputs)
        if not offered.inputs:
            entry["reason"] = "; ".join(offered.missing)
        listed.append(entry)
    return jsonify(workflows=listed)
