"""Batches over REST: submit, look, pause, resume, cancel, try again, and fetch what was made."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from flask import Blueprint, Response, g, jsonify, request
from flask.typing import ResponseReturnValue

from graycat import params
from graycat.auth.tokens import BATCH, LLM, SD
from graycat.batches import spec
from graycat.batches.errors import InvalidBatch, ItemNotFound
from graycat.batches.plan import Item, expand
from graycat.batches.records import BatchRecords, Row
from graycat.batches.spec import Spec
from graycat.batches.states import ITEM_STATES
from graycat.errors import ModelNotFound, RequestError
from graycat.fleet.catalogs import wanted_checkpoint
from graycat.fleet.workers import serving
from graycat.images.replies import content_type
from graycat.queue.kinds import TXT2IMG
from graycat.queue.topology import SD_BATCH
from graycat.web.api.task_requests import CHOSEN_ID
from graycat.web.auth import require_scope, token_auth
from graycat.web.compat.image_tasks import queue_for, run_in_thread, take_large_body
from graycat.web.compat.route import read_raw
from graycat.web.limits import token_max_pixels
from graycat.web.services import services

bp = Blueprint("batches", __name__)
bp.before_request(take_large_body)

#: Batches or items on one page.
PAGE, MAX_PAGE = 100, 1000
#: Items that a dry run shows.
SHOWN = 20


def _records() -> BatchRecords:
    found: BatchRecords = services().batches
    return found


@bp.post("/batches")
@token_auth.login_required
def submit() -> ResponseReturnValue:
    """Accept a batch: 201 with its address, 200 where its key is known; ``dry_run`` tells what it would make."""
    require_scope(BATCH)
    require_scope(SD)
    document = params.read_object(read_raw())
    settings = services().settings
    wanted = run_in_thread(partial(spec.parse, document, settings, token_max_pixels()))
    if wanted.prompt_request is not None:
        require_scope(LLM)
    _check_models(wanted)
    key = request.headers.get("Idempotency-Key", "")
    if key and not CHOSEN_ID.fullmatch(key):
        raise RequestError("an Idempotency-Key has 1 to 64 letters, digits, dots, dashes, underscores")
    if request.args.get("dry_run", "").lower() in ("1", "true", "yes"):
        return jsonify(_forecast(wanted, run_in_thread(partial(_items, wanted))))
    batch_id, new = _records().submit(wanted, g.owner, key)
    response = jsonify(_linked(_records().get(batch_id, g.owner)))
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/batches/{batch_id}"
    return response


def _check_models(wanted: Spec) -> None:
    """Raise InvalidBatch where a body names a checkpoint, or the question for prompts a model, that no engine has."""
    named = {wanted_checkpoint(body): body for body in wanted.images.bodies}
    problems = []
    for body in (body for name, body in named.items() if name):
        try:
            queue_for(TXT2IMG, body)
        except ModelNotFound as error:
            problems.append(("override_settings.sd_model_checkpoint", str(error)))
    if wanted.prompt_request is not None and (model := wanted.prompt_request.model):
        writers = [w for w in services().workers() if LLM in w.queues and w.models]
        if writers and not any(model in writer.models for writer in writers):
            problems.append(("prompts.model", str(ModelNotFound(model))))
    if problems:
        raise InvalidBatch(problems)


def _items(wanted: Spec) -> list[Item]:
    ask = wanted.prompt_request
    prompts = [f"prompt {number} of {ask.count}" for number in range(1, ask.count + 1)] if ask else []
    return expand(wanted, "BATCH", "", prompts)


def _forecast(wanted: Spec, items: list[Item]) -> Row:
    """Return what a batch would make: how many, the first of them, and how long it would take."""
    work = sum(item.work for item in items)
    shared = services()
    engines = len(serving(shared.workers(), SD_BATCH))
    gpu_s = shared.batches.throughput.estimate_gpu_s(work)
    shown = [
        {"number": i.number, "file": i.file, "prompt": i.prompt, "seed": i.seed if i.seed >= 0 else None}
        for i in items[:SHOWN]
    ]
    return {
        "dry_run": True,
        "name": wanted.name,
        "total": len(items),
        "work_megapixel_steps": round(work, 3),
        "gpu_s": gpu_s,
        "engines": engines,
        "eta_s": round(gpu_s / engines, 1) if gpu_s is not None and engines else None,
        "prompts": wanted.prompt_request.count if wanted.prompt_request else None,
        "items": shown,
    }


@bp.get("/batches")
@token_auth.login_required
def listing() -> ResponseReturnValue:
    """List the caller's batches, newest first, ``limit`` a page from ``offset``."""
    offset, limit = _page()
    rows = _records().list(g.owner, limit, offset)
    return jsonify(batches=[_linked(row) for row in rows], next_offset=offset + limit if len(rows) == limit else None)


@bp.get("/batches/<batch_id>")
@token_auth.login_required
def show(batch_id: str) -> ResponseReturnValue:
    """Tell a batch's state, its items by state, and when it may be done."""
    return jsonify(_linked(_records().get(batch_id, g.owner)))


@bp.get("/batches/<batch_id>/spec")
@token_auth.login_required
def document(batch_id: str) -> ResponseReturnValue:
    """Return the spec of a batch as it was given, without its webhook's secret."""
    found = _records().load_document(batch_id, g.owner)
    if isinstance(found.get("webhook"), dict):
        found["webhook"].pop("secret", None)
    return jsonify(found)


@bp.get("/batches/<batch_id>/items")
@token_auth.login_required
def items(batch_id: str) -> ResponseReturnValue:
    """List a batch's items, by ``state`` where that is given, ``limit`` a page from ``offset``."""
    offset, limit = _page()
    state = request.args.get("state", "")
    if state and state not in ITEM_STATES:
        raise RequestError(f"'state' must be one of {', '.join(ITEM_STATES)}")
    rows = _records().list_items(batch_id, offset, limit, g.owner, state)
    for row in rows:
        row["links"] = {"image": f"/batches/{batch_id}/items/{row['number']}/image"} if row["file"] else {}
    return jsonify(items=rows, next_offset=offset + limit if len(rows) == limit else None)


@bp.get("/batches/<batch_id>/items/<int:number>/image")
@token_auth.login_required
def image(batch_id: str, number: int) -> ResponseReturnValue:
    """Return the image of an item that is done."""
    row = _records().get(batch_id, g.owner)
    item = _records().get_item(batch_id, number, g.owner)
    if item is None or not item["file"]:
        raise ItemNotFound
    data = services().outputs.open(row["store"], row["folder"]).read(item["file"])
    if data is None:
        raise ItemNotFound
    response = Response(data, content_type=content_type(data))
    response.set_etag(item["sha256"])
    response.headers["Cache-Control"] = "private, no-cache"
    return response.make_conditional(request)


@bp.get("/batches/<batch_id>/manifest")
@token_auth.login_required
def manifest(batch_id: str) -> ResponseReturnValue:
    """Return the manifest so far, a line of JSON for each image that is done."""
    lines = _records().manifest_lines(batch_id, g.owner)
    return Response("".join(f"{line}\n" for line in lines), content_type="application/x-ndjson")


@bp.post("/batches/<batch_id>/pause")
@token_auth.login_required
def pause(batch_id: str) -> ResponseReturnValue:
    """Have a batch start no more items; the image that is rendered is finished."""
    return _changed(_records().pause, batch_id)


@bp.post("/batches/<batch_id>/resume")
@token_auth.login_required
def resume(batch_id: str) -> ResponseReturnValue:
    """Have a batch go on, or mend one that has ended: what is missing or damaged is made, and nothing else."""
    return _changed(_records().resume, batch_id)


@bp.delete("/batches/<batch_id>")
@bp.post("/batches/<batch_id>/cancel", endpoint="cancel_post")
@token_auth.login_required
def cancel(batch_id: str) -> ResponseReturnValue:
    """Cancel a batch, however often; what it has made stays."""
    return _changed(_records().cancel, batch_id)


@bp.post("/batches/<batch_id>/retry-failed")
@token_auth.login_required
def retry_failed(batch_id: str) -> ResponseReturnValue:
    """Have the items of a batch that failed or were cancelled made once more."""
    return _changed(_records().retry_failed, batch_id)


def _changed(change: Callable[[str, str], Row], batch_id: str) -> Response:
    require_scope(BATCH)
    return jsonify(_linked(change(batch_id, g.owner)))


def _linked(row: Row) -> Row:
    path = f"/batches/{row['id']}"
    return row | {"links": {"self": path, "items": f"{path}/items", "manifest": f"{path}/manifest"}}


def _page() -> tuple[int, int]:
    return _number("offset", 0, 10**9), _number("limit", PAGE, MAX_PAGE, least=1)


def _number(name: str, default: int, most: int, least: int = 0) -> int:
    text: Any = request.args.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 10 or not least <= int(text) <= most:
        raise RequestError(f"{name!r} must be from {least} to {most}")
    return int(text)
