"""The gallery of a batch: a page for people, by a signed link or an API token, also as the password of HTTP Basic."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, current_app, g, jsonify, request
from flask.typing import ResponseReturnValue
from flask_httpauth import MultiAuth

from graycat import params
from graycat.auth.signed_links import LONGEST_TTL_S, SHORTEST_TTL_S, USUAL_TTL_S, SignedLinks
from graycat.batches.errors import ItemNotFound
from graycat.batches.gallery import thumbnails, zip
from graycat.batches.gallery.page import POLICY, Card, Page, build_card, count_finished, render, summarize
from graycat.batches.output import Output
from graycat.batches.records import BatchRecords, Row
from graycat.batches.spec import filenames
from graycat.batches.states import DONE, ENDED
from graycat.errors import RequestError
from graycat.images.replies import content_type
from graycat.web.auth import HttpAuth, View, basic_auth, token_auth
from graycat.web.compat.image_tasks import run_in_thread
from graycat.web.compat.route import read_raw
from graycat.web.services import services

bp = Blueprint("gallery", __name__)

page_auth: HttpAuth = MultiAuth(basic_auth, token_auth)
#: Images on one page, and items that a zip reads at once.
PAGE, PORTION = 100, 500
#: A page that was opened with an API token shows its images by a link that lives this long.
OWN_LINK_TTL_S = 6 * 3600


def _records() -> BatchRecords:
    found: BatchRecords = services().batches
    return found


def _links() -> SignedLinks:
    found: SignedLinks = services().gallery_links
    return found


def for_who_may_look(view: Callable[..., ResponseReturnValue]) -> View:
    """Call a view with the batch and with what its links carry, for those with a signed link or the owner's token."""

    @wraps(view)
    def guarded(batch_id: str, **given: Any) -> ResponseReturnValue:
        signature = request.args.get("signature")
        if signature is None:
            response = current_app.make_response(by_token(batch_id, **given))
            if response.status_code == 401:
                # A browser asks for a password where it is told of Basic.
                response.headers["WWW-Authenticate"] = basic_auth.authenticate_header()
            return response
        expires = request.args.get("expires", "")
        _links().check(batch_id, expires, signature)
        return view(_records().get(batch_id), {"expires": expires, "signature": signature}, **given)

    @page_auth.login_required
    def by_token(batch_id: str, **given: Any) -> ResponseReturnValue:
        return view(_records().get(batch_id, g.owner), _links().sign(batch_id, OWN_LINK_TTL_S), **given)

    return guarded


@bp.post("/batches/<batch_id>/gallery/link")
@token_auth.login_required
def link(batch_id: str) -> ResponseReturnValue:
    """Make a link that shows the gallery to whoever has it, for ``ttl_s`` seconds."""
    raw = read_raw()
    body = params.read_object(raw) if raw else {}
    params.refuse_unknown(body, ("ttl_s",))
    ttl_s = body.get("ttl_s", USUAL_TTL_S)
    if isinstance(ttl_s, bool) or not isinstance(ttl_s, int) or not SHORTEST_TTL_S <= ttl_s <= LONGEST_TTL_S:
        raise RequestError(f"'ttl_s' must be a number of seconds, {SHORTEST_TTL_S} to {LONGEST_TTL_S}")
    _records().get(batch_id, g.owner)
    signed = _links().sign(batch_id, ttl_s)
    response = jsonify(url=f"/batches/{batch_id}/gallery?{urlencode(signed)}", expires_at=int(signed["expires"]))
    response.headers["Cache-Control"] = "no-store"
    return response


@bp.get("/batches/<batch_id>/gallery")
@for_who_may_look
def gallery(row: Row, signed: dict[str, str]) -> ResponseReturnValue:
    """Show a batch's images on a page, with prompt, seed and state; live while it runs."""
    number = _page_number()
    to = partial(_address, signed)
    page = Page(
        name=row["name"],
        summary=summarize(row),
        total=row["total"],
        finished=count_finished(row["progress"]),
        cards=_cards(row, signed, number),
        previous=to("gallery", page=number - 1) if number > 1 else "",
        following=to("gallery", page=number + 1) if number * PAGE < row["total"] else "",
        live="" if row["state"] in ENDED else to("gallery/state", page=number),
        all=to("gallery/images.zip") if row["progress"][DONE] else "",
    )
    response = Response(render(page), content_type="text/html; charset=utf-8")
    response.headers.update(
        {
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            # The address is what lets somebody in.
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "private, no-store",
        }
    )
    return response


@bp.get("/batches/<batch_id>/gallery/state")
@for_who_may_look
def state(row: Row, signed: dict[str, str]) -> ResponseReturnValue:
    """Tell what has become of the items of a page of the gallery."""
    cards = [card.to_dict() for card in _cards(row, signed, _page_number())]
    over, live = count_finished(row["progress"]), row["state"] not in ENDED
    response = jsonify(summary=summarize(row), over=over, total=row["total"], live=live, cards=cards)
    response.headers["Cache-Control"] = "private, no-store"
    return response


@bp.get("/batches/<batch_id>/gallery/images/<int:number>")
@for_who_may_look
def image(row: Row, signed: dict[str, str], number: int) -> ResponseReturnValue:
    """Return an image of the gallery."""
    item, output = _done(row, number)
    data = output.read(item["file"])
    if data is None:
        raise ItemNotFound
    return _kept(data, content_type(data), item["sha256"])


@bp.get("/batches/<batch_id>/gallery/thumbnails/<int:number>")
@for_who_may_look
def small(row: Row, signed: dict[str, str], number: int) -> ResponseReturnValue:
    """Return a small picture of an image of the gallery."""
    item, output = _done(row, number)
    data = run_in_thread(partial(thumbnails.load_or_create_thumbnail, output, item["file"], item["sha256"]))
    if data is None:
        raise ItemNotFound
    return _kept(data, thumbnails.CONTENT_TYPE, item["sha256"])


@bp.get("/batches/<batch_id>/gallery/images.zip")
@for_who_may_look
def all_images(row: Row, signed: dict[str, str]) -> ResponseReturnValue:
    """Return all images that are done as a zip, with the manifest."""
    response = Response(zip.stream_zip(_files(row)), content_type="application/zip")
    name = filenames.slugify(row["name"]).encode("ascii", "ignore").decode() or "batch"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}-{row["id"]}.zip"'
    response.headers["Cache-Control"] = "private, no-store"
    # A proxy that waits for the end would hold all of it.
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _files(row: Row) -> Iterator[tuple[str, float, bytes]]:
    records, total = _records(), row["total"]
    output = services().outputs.open(row["store"], row["folder"])

    # The request is over when this runs.
    def generate() -> Iterator[tuple[str, float, bytes]]:
        for item in (
            item for offset in range(0, total, PORTION) for item in records.list_items(row["id"], offset, PORTION)
        ):
            data = output.read(item["file"]) if item["file"] else None
            if data is not None:
                yield item["file"], (item["finished_ms"] or 0) / 1000, data
        yield "manifest.jsonl", time.time(), "".join(f"{line}\n" for line in records.manifest_lines(row["id"])).encode()

    return generate()


def _cards(row: Row, signed: dict[str, str], number: int) -> list[Card]:
    items = _records().list_items(row["id"], (number - 1) * PAGE, PAGE)
    to = partial(_address, signed)
    return [
        build_card(item, to(f"gallery/images/{item['number']}"), to(f"gallery/thumbnails/{item['number']}"))
        if item["file"]
        else build_card(item)
        for item in items
    ]


def _address(signed: dict[str, str], path: str, **more: int) -> str:
    """Return an address below the batch's own, as the page writes it."""
    return f"{path}?{urlencode(more | signed)}"


def _done(row: Row, number: int) -> tuple[Row, Output]:
    item = _records().get_item(row["id"], number)
    if item is None or not item["file"]:
        raise ItemNotFound
    return item, services().outputs.open(row["store"], row["folder"])


def _kept(data: bytes, kind: str, sha256: str) -> Response:
    response = Response(data, content_type=kind)
    response.set_etag(sha256)
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.make_conditional(request)
    return response


def _page_number() -> int:
    text = request.args.get("page", "1")
    if not text.isascii() or not text.isdecimal() or len(text) > 6 or int(text) < 1:
        raise RequestError("'page' must be a number from 1 on")
    return int(text)
