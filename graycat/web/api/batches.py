"""Batches over REST: submit, show, pause, resume, cancel and retry, and download images and manifest."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from flask import Blueprint, Response, g, jsonify, request
from flask.typing import ResponseReturnValue

from graycat import families
from graycat.auth.tokens import BATCH, LLM, SD
from graycat.batches import spec
from graycat.batches.errors import InvalidBatch, ItemNotFound
from graycat.batches.plan import Item, expand
from graycat.batches.records import Row
from graycat.batches.spec import Spec
from graycat.batches.states import ITEM_STATES
from graycat.bounds.names import suggest
from graycat.errors import RequestError
from graycat.queue.topology import SD_BATCH
from graycat.web.api.choices import check_choices, check_names, find_unlisted
from graycat.web.api.task_requests import CHOSEN_ID
from graycat.web.auth import require_scope, token_auth
from graycat.web.compat.image_tasks import allow_large_body, run_in_thread
from graycat.web.compat.route import read_object
from graycat.web.image_files import image_response
from graycat.web.limits import pixel_limit
from graycat.web.links import link
from graycat.web.services import services

bp = Blueprint("batches", __name__)
bp.before_request(allow_large_body)

#: Batches or items on one page.
DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
#: Items that a dry run shows.
DRY_RUN_ITEMS = 20
_DRY_RUN = "dry_run"


@bp.post("/batches")
@token_auth.login_required
def submit() -> ResponseReturnValue:
    """Submit a batch: 201 with its address, 200 if its key is known. ``dry_run`` only shows what it would make."""
    require_scope(BATCH)
    require_scope(SD)
    document = read_object(is_document=True)
    settings = services().settings
    try:
        parsed = run_in_thread(partial(spec.parse, document, settings, pixel_limit()))
    except InvalidBatch as error:
        # All faults in one answer: its names are compared with the engines' as well.
        raise InvalidBatch([*error.problems, *find_unlisted(document)]) from None
    if parsed.prompt_request is not None:
        require_scope(LLM)
    check_names(parsed)
    warnings = check_choices(parsed.document)
    key = request.headers.get("Idempotency-Key")
    if key is not None and not CHOSEN_ID.fullmatch(key):
        raise RequestError("an Idempotency-Key has 1 to 64 letters, digits, dots, dashes, underscores")
    if _is_dry_run():
        items = run_in_thread(partial(_expand_items, parsed))
        return jsonify(_forecast(parsed, items) | {"warnings": warnings})

    services().require_engine(families.SD)
    if parsed.prompt_request is not None:
        services().require_engine(families.LLM)
    batch_id, is_new = services().batches.submit(parsed, g.owner, key or "")
    response = jsonify(_add_links(services().batches.get(batch_id, g.owner)))
    if is_new:
        response.status_code = 201
    response.headers["Location"] = link(f"/batches/{batch_id}")
    return response


def _is_dry_run() -> bool:
    """Return whether nothing is to be made. Raises RequestError for another word: it would be taken for no."""
    for name in request.args:
        # A misspelt one would make the images.
        if name != _DRY_RUN:
            raise RequestError(f"there is no query parameter {name[:100]!r}; {suggest(name, (_DRY_RUN,))}")
    word = request.args.get(_DRY_RUN, "false").lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise RequestError("'dry_run' must be true or false")


def _expand_items(parsed: Spec) -> list[Item]:
    """Return the items of a batch, with placeholders for prompts that a text engine would write."""
    prompts = []
    if parsed.prompt_request is not None:
        count = parsed.prompt_request.count
        prompts = [f"prompt {number} of {count}" for number in range(1, count + 1)]
    return expand(parsed, "BATCH", "", prompts)


def _forecast(parsed: Spec, items: list[Item]) -> Row:
    """Return what a batch would make: how many images, the first of them, and how long that would take."""
    work = sum(item.work for item in items)
    engines = len(services().select_serving(SD_BATCH))
    gpu_s = services().batches.throughput.estimate_gpu_s(work)
    found = services().batches.forecaster.forecast(work, parsed.options, engines=engines)

    first_items = []
    for item in items[:DRY_RUN_ITEMS]:
        view: Row = {"number": item.number, "file": item.file, "prompt": item.prompt, "seed": item.seed}
        if item.seed < 0:
            view["seed"] = None
        first_items.append(view)

    prompts = None
    if parsed.prompt_request is not None:
        prompts = parsed.prompt_request.count
    return {
        "dry_run": True,
        "name": parsed.name,
        "total": len(items),
        "work_megapixel_steps": round(work, 3),
        "gpu_s": gpu_s,
        "engines": engines,
        "eta_s": found.eta_s,
        **({"eta_reason": found.reason} if found.reason else {}),
        "prompts": prompts,
        "items": first_items,
    }


@bp.get("/batches")
@token_auth.login_required
def listing() -> ResponseReturnValue:
    """List the caller's batches, newest first, ``limit`` a page from ``offset``."""
    offset, limit = _parse_page()
    rows = services().batches.list(g.owner, limit, offset)
    return jsonify(batches=[_add_links(row) for row in rows], next_offset=_next_offset(offset, limit, rows))


@bp.get("/batches/<batch_id>")
@token_auth.login_required
def show(batch_id: str) -> ResponseReturnValue:
    """Show a batch: its state, the number of items in each state, and when it may be done."""
    return jsonify(_add_links(services().batches.get(batch_id, g.owner)))


@bp.get("/batches/<batch_id>/spec")
@token_auth.login_required
def document(batch_id: str) -> ResponseReturnValue:
    """Return the spec of a batch as it was submitted, without its webhook's secret."""
    submitted = services().batches.load_document(batch_id, g.owner)
    if isinstance(submitted.get("webhook"), dict):
        submitted["webhook"].pop("secret", None)
    return jsonify(submitted)


@bp.get("/batches/<batch_id>/items")
@token_auth.login_required
def items(batch_id: str) -> ResponseReturnValue:
    """List a batch's items, only those in ``state`` if that is set, ``limit`` a page from ``offset``."""
    offset, limit = _parse_page()
    state = request.args.get("state", "")
    if state and state not in ITEM_STATES:
        raise RequestError(f"'state' must be one of {', '.join(ITEM_STATES)}")
    rows = services().batches.list_items(batch_id, offset, limit, g.owner, state)
    for row in rows:
        row["links"] = {}
        if row["file"]:
            row["links"]["image"] = link(f"/batches/{batch_id}/items/{row['number']}/image")
    return jsonify(items=rows, next_offset=_next_offset(offset, limit, rows))


@bp.get("/batches/<batch_id>/items/<int:number>/image")
@token_auth.login_required
def image(batch_id: str, number: int) -> ResponseReturnValue:
    """Return the image of an item that is done."""
    row = services().batches.get(batch_id, g.owner)
    item = services().batches.get_item(batch_id, number, g.owner)
    if item is None or not item["file"]:
        raise ItemNotFound
    data = services().outputs.open(row["store"], row["folder"]).read(item["file"])
    if data is None:
        raise ItemNotFound
    response = image_response(data, item["sha256"])
    response.headers["Cache-Control"] = "private, no-cache"
    return response.make_conditional(request)


@bp.get("/batches/<batch_id>/manifest")
@token_auth.login_required
def manifest(batch_id: str) -> ResponseReturnValue:
    """Return the manifest so far: a line of JSON for each image that is done."""
    lines = services().batches.manifest_lines(batch_id, g.owner)
    return Response("".join(f"{line}\n" for line in lines), content_type="application/x-ndjson")


@bp.post("/batches/<batch_id>/pause")
@token_auth.login_required
def pause(batch_id: str) -> ResponseReturnValue:
    """Pause a batch: no more items are started, and images in progress are finished."""
    return _change_batch(services().batches.pause, batch_id)


@bp.post("/batches/<batch_id>/resume")
@token_auth.login_required
def resume(batch_id: str) -> ResponseReturnValue:
    """Resume a batch. If it has ended, only the images that are missing or damaged are made again."""
    return _change_batch(services().batches.resume, batch_id)


@bp.delete("/batches/<batch_id>")
@bp.post("/batches/<batch_id>/cancel", endpoint="cancel_post")
@token_auth.login_required
def cancel(batch_id: str) -> ResponseReturnValue:
    """Cancel a batch; may be repeated. Finished images are kept."""
    return _change_batch(services().batches.cancel, batch_id)


@bp.post("/batches/<batch_id>/retry-failed")
@token_auth.login_required
def retry_failed(batch_id: str) -> ResponseReturnValue:
    """Make the items of a batch again that failed or were cancelled."""
    return _change_batch(services().batches.retry_failed, batch_id)


def _change_batch(change: Callable[[str, str], Row], batch_id: str) -> Response:
    require_scope(BATCH)
    return jsonify(_add_links(change(batch_id, g.owner)))


def _add_links(row: Row) -> Row:
    own = link(f"/batches/{row['id']}")
    return row | {"links": {"self": own, "items": f"{own}/items", "manifest": f"{own}/manifest"}}


def _next_offset(offset: int, limit: int, rows: list[Row]) -> int | None:
    if len(rows) < limit:
        return None
    return offset + limit


def _parse_page() -> tuple[int, int]:
    """Return the offset and the limit that the request asks for."""
    offset = _parse_number("offset", default=0, minimum=0, maximum=10**9)
    limit = _parse_number("limit", default=DEFAULT_PAGE_SIZE, minimum=1, maximum=MAX_PAGE_SIZE)
    return offset, limit


def _parse_number(name: str, default: int, minimum: int, maximum: int) -> int:
    text = request.args.get(name)
    if text is None:
        return default
    is_number = text.isascii() and text.isdecimal() and len(text) <= 10
    if not is_number or not minimum <= int(text) <= maximum:
        raise RequestError(f"{name!r} must be from {minimum} to {maximum}")
    return int(text)
