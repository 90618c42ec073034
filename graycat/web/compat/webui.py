"""The SD WebUI's ``/sdapi/v1``, as WebUI clients call it: images through the queue, lists from the fleet's record."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from flask import Blueprint, Response, g, jsonify, request
from flask.typing import ResponseReturnValue

from graycat import params
from graycat.auth.tokens import ADMIN
from graycat.auth.tokens import SD as SD_SCOPE
from graycat.errors import EngineNotReady, GraycatError
from graycat.images import webui_requests
from graycat.queue.kinds import (
    EXTRA_BATCH,
    EXTRA_SINGLE,
    IMG2IMG,
    INTERROGATE,
    PLAIN,
    REFRESH_CHECKPOINTS,
    REFRESH_EMBEDDINGS,
    REFRESH_LORAS,
    REFRESH_VAE,
    RELOAD_CHECKPOINT,
    SET_OPTIONS,
    TXT2IMG,
    UNLOAD_CHECKPOINT,
    Kind,
)
from graycat.queue.models import Verdict
from graycat.queue.topology import SD, worker_queue
from graycat.settings import Settings
from graycat.web.auth import any_auth, scope_required
from graycat.web.compat.image_tasks import Body, render, run_in_thread, take_large_body
from graycat.web.compat.route import read_raw
from graycat.web.compat.webui_lists import LISTS, merged
from graycat.web.compat.webui_progress import progress_of, running_renders
from graycat.web.limits import token_max_pixels
from graycat.web.services import services
from graycat.web.streaming.disconnect import watched
from graycat.web.streaming.requests import PendingTask, Submission

bp = Blueprint("sdapi", __name__, url_prefix="/sdapi/v1")
bp.before_request(take_large_body)


#: Checks a body by the settings and the pixels that its caller may ask for.
Check = Callable[[Settings, int | None, Body], Body]


def _generation(settings: Settings, token_max_pixels: int | None, body: Body) -> Body:
    return webui_requests.check_generation(body, settings, token_max_pixels)


def _extras(settings: Settings, token_max_pixels: int | None, body: Body) -> Body:
    return webui_requests.check_extras(body, settings, token_max_pixels)


#: The calls that render, by path: their kind, and what graycat checks itself.
RENDERS: dict[str, tuple[Kind, Check, str]] = {
    "/txt2img": (TXT2IMG, _generation, "Make images from a prompt."),
    "/img2img": (IMG2IMG, _generation, "Make images from images and a prompt."),
    "/extra-single-image": (EXTRA_SINGLE, _extras, "Enlarge or repair one image."),
    "/extra-batch-images": (EXTRA_BATCH, _extras, "Enlarge or repair several images."),
    "/interrogate": (INTERROGATE, _extras, "Describe an image."),
}
#: Calls that change every engine: admin only.
CHANGES = {
    "/options": (SET_OPTIONS, "Change the engines' settings."),
    "/refresh-checkpoints": (REFRESH_CHECKPOINTS, "Have the engines look for checkpoints."),
    "/refresh-vae": (REFRESH_VAE, "Have the engines look for VAEs."),
    "/refresh-loras": (REFRESH_LORAS, "Have the engines look for LoRAs."),
    "/refresh-embeddings": (REFRESH_EMBEDDINGS, "Have the engines look for embeddings."),
    "/unload-checkpoint": (UNLOAD_CHECKPOINT, "Have the engines free their GPU."),
    "/reload-checkpoint": (RELOAD_CHECKPOINT, "Have the engines load their checkpoint again."),
}


def _render(path: str) -> ResponseReturnValue:
    kind, check, _ = RENDERS[path]
    body = params.read_object(read_raw())
    return render(kind, body, partial(check, services().settings, token_max_pixels()))


def _change(path: str) -> Response:
    """Run a call on every image engine, one after the other as each is free; the first error is the answer."""
    kind, _ = CHANGES[path]
    raw = read_raw() or b"{}"
    params.read_object(raw)
    shared = services()
    workers = shared.serving(SD)
    if not workers:
        raise EngineNotReady
    with ExitStack() as stack:
        tickets = []
        for worker in workers:
            submission = Submission(kind, worker_queue(SD, worker.name), PLAIN, raw, g.owner, g.request_id)
            tickets.append(stack.enter_context(shared.gateway.submit(submission)))
            stack.enter_context(watched(request.environ, tickets[-1].hang_up))
        outcomes = [_outcome(ticket) for ticket in tickets]
    shared.look_again()
    for outcome in outcomes:
        if isinstance(outcome, GraycatError):
            raise outcome
    status, reply = outcomes[0]
    return Response(reply, status, content_type="application/json")


def _outcome(ticket: PendingTask) -> Any:
    """Return a call's status and reply, or what it failed with."""
    try:
        event = ticket.next()
    except GraycatError as error:
        return error
    return event.answer() if event is not None else (200, b"null")


def _list(name: str) -> ResponseReturnValue:
    catalogs = list(services().catalogs().values())
    if not catalogs:
        raise EngineNotReady
    return jsonify(merged(name, [catalog[name] for catalog in catalogs if name in catalog]))


for _path, (_kind, _, _summary) in RENDERS.items():
    _view: Any = any_auth.login_required(scope_required(SD_SCOPE)(partial(_render, _path)))
    _view.__doc__ = _summary
    bp.add_url_rule(_path, _kind.name.removeprefix("sd."), _view, methods=["POST"])
for _path, (_kind, _summary) in CHANGES.items():
    _view = any_auth.login_required(scope_required(ADMIN)(partial(_change, _path)))
    _view.__doc__ = _summary
    bp.add_url_rule(_path, _kind.name.removeprefix("sd."), _view, methods=["POST"])
for _name in LISTS:
    _view = any_auth.login_required(scope_required(SD_SCOPE)(partial(_list, _name)))
    _view.__doc__ = f"List the engines' {_name}, each once."
    bp.add_url_rule(f"/{_name}", f"list_{_name}", _view, methods=["GET"])


@bp.post("/png-info")
@any_auth.login_required
@scope_required(SD_SCOPE)
def png_info() -> ResponseReturnValue:
    """Read what a PNG, JPEG or WebP says of how it was made; needs no engine."""
    body = params.read_object(read_raw())
    settings = services().settings
    return jsonify(run_in_thread(partial(webui_requests.read_png_info, body, settings)))


@bp.get("/progress")
@any_auth.login_required
@scope_required(SD_SCOPE)
def progress() -> ResponseReturnValue:
    """Tell how far the caller's own render is; other callers' are invisible."""
    records = services().gateway.records
    skip_image = request.args.get("skip_current_image", "").lower() in {"1", "true", "yes", "on"}
    return jsonify(progress_of(records, g.owner, with_image=not skip_image))


@bp.post("/interrupt")
@any_auth.login_required
@scope_required(SD_SCOPE)
def interrupt() -> ResponseReturnValue:
    """Have the caller's own running render end with the images it has; what waits goes on waiting."""
    gateway = services().gateway
    for task_id in running_renders(gateway.records, g.owner):
        gateway.cancel(task_id, Verdict.INTERRUPT)
    return jsonify({})


@bp.post("/skip")
@any_auth.login_required
@scope_required(SD_SCOPE)
def skip() -> ResponseReturnValue:
    """Have the caller's own running render leave out the rest of its batch."""
    gateway = services().gateway
    for task_id in running_renders(gateway.records, g.owner):
        gateway.skip(task_id)
    return jsonify(None)
