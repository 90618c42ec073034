"""The images of a task, and its preview while it runs."""

from __future__ import annotations

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from graycat.queue.errors import ImageNotFound, PreviewNotFound
from graycat.web.api.foreign_tasks import find_readable_task
from graycat.web.auth import token_auth
from graycat.web.image_files import image_response
from graycat.web.services import services

bp = Blueprint("task_images", __name__)


@bp.get("/tasks/<task_id>/images/<int:number>")
def image(task_id: str, number: int) -> ResponseReturnValue:
    """Return an image of a task, as the engine made it: to its owner, and to whoever has a signed link."""
    signature = request.args.get("signature")
    if signature is None:
        return _image_of_caller(task_id, number)
    services().image_links.check(f"{task_id}/{number}", request.args.get("expires", ""), signature)
    return _image_response(task_id, number)


@token_auth.login_required
def _image_of_caller(task_id: str, number: int) -> ResponseReturnValue:
    task_id, _ = find_readable_task(task_id)
    return _image_response(task_id, number)


def _image_response(task_id: str, number: int) -> ResponseReturnValue:
    found = services().artifacts.get(task_id, number)
    if found is None:
        raise ImageNotFound(number)
    artifact, data = found
    response = image_response(data, artifact.sha256)
    response.headers["Cache-Control"] = "private, max-age=3600, immutable"
    return response.make_conditional(request)


@bp.get("/tasks/<task_id>/preview")
@token_auth.login_required
def preview(task_id: str) -> ResponseReturnValue:
    """Return the newest preview of a running image task."""
    task_id, _ = find_readable_task(task_id)
    data = services().gateway.records.preview(task_id)
    if data is None:
        raise PreviewNotFound
    response = image_response(data)
    response.headers["Cache-Control"] = "no-store"
    return response
