"""The SD WebUI's API under ``/sdapi/v1``: images through the queue, lists from what the workers last reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from flask import Blueprint, Response, g, jsonify, request
from flask.typing import ResponseReturnValue

from graycat import families, params
from graycat.auth.tokens import ADMIN
from graycat.auth.tokens import SD as SD_SCOPE
from graycat.errors import EngineNotReady, GraycatError
from graycat.fleet.webui_options import check_options
from graycat.images import webui_requests
from graycat.images.webui_lists import WEBUI_LISTS
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
from graycat.redaction.answers import hide
from graycat.settings import Settings
from graycat.status.forecast import Wait
from graycat.web.auth import any_auth, is_admin, scope_required
from graycat.web.compat.image_tasks import Body, allow_large_body, run_image_task, run_in_thread
from graycat.web.compat.route import read_body, read_object
from graycat.web.compat.webui_lists import merge_lists
from graycat.web.compat.webui_progress import progress_view, running_task_ids
from graycat.web.limits import pixel_limit
from graycat.web.services import services
from graycat.web.streaming.disconnect import on_disconnect
from graycat.web.streaming.requests import PendingTask, Submission

bp = Blueprint("sdapi", __name__, url_prefix="/sdapi/v1")
bp.before_request(allow_large_body)

#: Checks a body against the settings and the number of pixels that its caller may ask for.
Check = Callable[[Settings, int | None, Body], Body]


def _check_generation(settings: Settings, max_pixels: int | None, body: Body) -> Body:
    return webui_requests.check_generation(body, settings, max_pixels)


def _check_extras(settings: Settings, max_pixels: int | None, body: Body) -> Body:
    return webui_requests.check_extras(body, settings, max_pixels)


#: Calls that run an image task, by path: the task's kind, graycat's own check of the body, and the summary.
IMAGE_CALLS: dict[str, tuple[Kind, Check, str]] = {
    "/txt2img": (TXT2IMG, _check_generation, "Make images from a prompt."),
    "/img2img": (IMG2IMG, _check_generation, "Make images from images and a prompt."),
    "/extra-single-image": (EXTRA_SINGLE, _check_extras, "Enlarge or repair one image."),
    "/extra-batch-images": (EXTRA_BATCH, _check_extras, "Enlarge or repair several images."),
    "/interrogate": (INTERROGATE, _check_extras, "Describe an image."),
}
#: Calls that change every engine, by path; they need the admin scope.
ADMIN_CALLS = {
    "/options": (SET_OPTIONS, "Change the engines' settings."),
    "/refresh-checkpoints": (REFRESH_CHECKPOINTS, "Make the engines look for checkpoints."),
    "/refresh-vae": (REFRESH_VAE, "Make the engines look for VAEs."),
    "/refresh-loras": (REFRESH_LORAS, "Make the engines look for LoRAs."),
    "/refresh-embeddings": (REFRESH_EMBEDDINGS, "Make the engines look for embeddings."),
    "/unload-checkpoint": (UNLOAD_CHECKPOINT, "Make the engines free their GPU."),
    "/reload-checkpoint": (RELOAD_CHECKPOINT, "Make the engines load their checkpoint again."),
}


def _run_image_call(path: str) -> ResponseReturnValue:
    kind, check, _ = IMAGE_CALLS[path]
    body = read_object()
    return run_image_task(kind, body, partial(check, services().settings, pixel_limit()))


def _run_admin_call(path: str) -> Response:
    """Run a call on every image engine, each when it is free. If any fails, the first error is the answer."""
    kind, _ = ADMIN_CALLS[path]
    raw = read_body() or b"{}"
    changes = params.read_object(raw, services().settings.max_json_depth)
    workers = services().select_serving(SD)
    if not workers:
        services().require_engine(families.SD)
        raise EngineNotReady
    if kind is SET_OPTIONS:
        check_options(changes, services().catalogs())

    gateway = services().gateway
    with ExitStack() as stack:
        pending_tasks = []
        for worker in workers:
            submission = Submission(
                kind, worker_queue(SD, worker.name), PLAIN, raw, g.owner, g.request_id, token=g.token
            )
            pending = stack.enter_context(gateway.submit(submission))
            stack.enter_context(on_disconnect(request.environ, pending.client_disconnected))
            pending_tasks.append(pending)
        outcomes = [_wait_for_outcome(pending) for pending in pending_tasks]
    services().forget_workers()

    for outcome in outcomes:
        if isinstance(outcome, GraycatError):
            raise outcome
    status, reply = outcomes[0]
    return Response(reply, status, content_type="application/json")


def _wait_for_outcome(pending: PendingTask) -> Any:
    """Return a call's status and reply, or the error that it failed with."""
    try:
        event = pending.next_event()
    except GraycatError as error:
        return error
    if event is None:
        return 200, b"null"
    return event.answer()


def _list(name: str) -> ResponseReturnValue:
    catalogs = services().catalogs().values()
    if not catalogs:
        services().require_engine(families.SD)
        raise EngineNotReady
    merged = merge_lists(name, [catalog[name] for catalog in catalogs if name in catalog])
    return jsonify(merged if is_admin() else hide(name, merged))


def _add_route(path: str, endpoint: str, scope: str, summary: str, method: str, view: Any) -> None:
    guarded = any_auth.login_required(scope_required(scope)(view))
    guarded.__doc__ = summary
    bp.add_url_rule(path, endpoint, guarded, methods=[method])


def _add_routes() -> None:
    """Register the routes of the tables above, and those of the lists."""
    for path, (kind, _, summary) in IMAGE_CALLS.items():
        _add_route(path, kind.name.removeprefix("sd."), SD_SCOPE, summary, "POST", partial(_run_image_call, path))
    for path, (kind, summary) in ADMIN_CALLS.items():
        _add_route(path, kind.name.removeprefix("sd."), ADMIN, summary, "POST", partial(_run_admin_call, path))
    for name in WEBUI_LISTS:
        summary = f"List the engines' {name}, each once."
        _add_route(f"/{name}", f"list_{name}", SD_SCOPE, summary, "GET", partial(_list, name))


_add_routes()


@bp.post("/png-info")
@any_auth.login_required
@scope_required(SD_SCOPE)
def png_info() -> ResponseReturnValue:
    """Read the generation data that a PNG, JPEG or WebP file holds; needs no engine."""
    body = read_object()
    return jsonify(run_in_thread(partial(webui_requests.read_png_info, body, services().settings)))


@bp.get("/progress")
@any_auth.login_required
@scope_required(SD_SCOPE)
def progress() -> ResponseReturnValue:
    """Show the progress of the caller's own image task; those of other callers are invisible."""
    skip_image = request.args.get("skip_current_image", "").lower() in {"1", "true", "yes", "on"}
    here = services()
    workers = here.workers()

    def ask(task_id: str, record: Mapping[str, str]) -> Wait:
        return here.forecaster.wait(task_id, record, workers)

    return jsonify(progress_view(here.gateway.records, g.owner, with_image=not skip_image, ask=ask))


@bp.post("/interrupt")
@any_auth.login_required
@scope_required(SD_SCOPE)
def interrupt() -> ResponseReturnValue:
    """End the caller's own running image task with the images that it has; queued tasks are not affected."""
    gateway = services().gateway
    for task_id in running_task_ids(gateway.records, g.owner):
        gateway.cancel(task_id, Verdict.INTERRUPT)
    return jsonify({})


@bp.post("/skip")
@any_auth.login_required
@scope_required(SD_SCOPE)
def skip() -> ResponseReturnValue:
    """Make the caller's own running image task leave out the rest of its current batch."""
    gateway = services().gateway
    for task_id in running_task_ids(gateway.records, g.owner):
        gateway.skip(task_id)
    return jsonify(None)
