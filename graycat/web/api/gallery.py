"""The gallery of a batch: a web page of its images.

It opens with a signed link, or with an API token (Bearer, or as the password of HTTP Basic).
"""

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
from graycat.auth.signed_links import DEFAULT_TTL_S, MAX_TTL_S, MIN_TTL_S
from graycat.batches.errors import ItemNotFound
from graycat.batches.gallery import thumbnails, zip
from graycat.batches.gallery.page import POLICY, Card, Page, build_card, count_finished, render, summarize
from graycat.batches.output import Output
from graycat.batches.records import Row
from graycat.batches.spec import filenames
from graycat.batches.states import DONE, ENDED
from graycat.errors import RequestError
from graycat.web.auth import HttpAuth, View, basic_auth, token_auth
from graycat.web.compat.image_tasks import run_in_thread
from graycat.web.compat.route import read_body
from graycat.web.image_files import image_response
from graycat.web.links import link
from graycat.web.services import services

bp = Blueprint("gallery", __name__)

page_auth: HttpAuth = MultiAuth(basic_auth, token_auth)
#: Images on one page.
PAGE_SIZE = 100
#: Items that are read at once while a zip is written.
ZIP_CHUNK_ITEMS = 500
#: If a page is opened with an API token, the signed links of its images expire after this many seconds.
OWN_LINK_TTL_S = 6 * 3600


def gallery_access_required(view: Callable[..., ResponseReturnValue]) -> View:
    """Let only requests with a signed link or the owner's API token reach a view.

    The view is called with the batch, and with the query parameters that sign its own links.
    """

    @wraps(view)
    def guarded(batch_id: str, **path_values: Any) -> ResponseReturnValue:
        signature = request.args.get("signature")
        if signature is None:
            response = current_app.make_response(call_with_token(batch_id, **path_values))
            if response.status_code == 401:
                # Makes a browser ask for a password.
                challenges = response.headers.getlist("WWW-Authenticate")
                response.headers.setlist("WWW-Authenticate", [basic_auth.authenticate_header(), *challenges])
            return response
        expires = request.args.get("expires", "")
        services().gallery_links.check(batch_id, expires, signature)
        row = services().batches.get(batch_id)
        return view(row, {"expires": expires, "signature": signature}, **path_values)

    @page_auth.login_required
    def call_with_token(batch_id: str, **path_values: Any) -> ResponseReturnValue:
        row = services().batches.get(batch_id, g.owner)
        return view(row, services().gallery_links.sign(batch_id, OWN_LINK_TTL_S), **path_values)

    return guarded


@bp.post("/batches/<batch_id>/gallery/link")
@token_auth.login_required
def sign_link(batch_id: str) -> ResponseReturnValue:
    """Make a link that opens the gallery without an API token, for ``ttl_s`` seconds."""
    raw = read_body()
    body: dict[str, Any] = {}
    if raw:
        body = params.read_object(raw, services().settings.max_json_depth)
    params.refuse_unknown(body, ("ttl_s",))
    ttl_s = body.get("ttl_s", DEFAULT_TTL_S)
    if isinstance(ttl_s, bool) or not isinstance(ttl_s, int) or not MIN_TTL_S <= ttl_s <= MAX_TTL_S:
        raise RequestError(f"'ttl_s' must be a number of seconds, {MIN_TTL_S} to {MAX_TTL_S}")
    # Raises an error unless the batch is the caller's.
    services().batches.get(batch_id, g.owner)
    signed = services().gallery_links.sign(batch_id, ttl_s)
    path = f"/batches/{batch_id}/gallery?{urlencode(signed)}"
    response = jsonify(url=link(path), expires_at=int(signed["expires"]))
    response.headers["Cache-Control"] = "no-store"
    return response


@bp.get("/batches/<batch_id>/gallery")
@gallery_access_required
def gallery(row: Row, signed: dict[str, str]) -> ResponseReturnValue:
    """Show a batch's images on a page, with prompt, seed and state; the page updates while the batch runs."""
    number = _parse_page_number()
    previous = following = live = zip_url = ""
    if number > 1:
        previous = _signed_url(signed, "gallery", page=number - 1)
    if number * PAGE_SIZE < row["total"]:
        following = _signed_url(signed, "gallery", page=number + 1)
    if row["state"] not in ENDED:
        live = _signed_url(signed, "gallery/state", page=number)
    if row["progress"][DONE]:
        zip_url = _signed_url(signed, "gallery/images.zip")
    page = Page(
        name=row["name"],
        summary=summarize(row),
        total=row["total"],
        finished=count_finished(row["progress"]),
        cards=_cards(row, signed, number),
        previous=previous,
        following=following,
        live=live,
        all=zip_url,
    )
    response = Response(render(page), content_type="text/html; charset=utf-8")
    response.headers.update(
        {
            "Content-Security-Policy": POLICY,
            # The URL gives access, so it must not leak to other sites.
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "private, no-store",
        }
    )
    return response


@bp.get("/batches/<batch_id>/gallery/state")
@gallery_access_required
def state(row: Row, signed: dict[str, str]) -> ResponseReturnValue:
    """Return the current state of the items on a page of the gallery."""
    cards = [card.to_dict() for card in _cards(row, signed, _parse_page_number())]
    over, live = count_finished(row["progress"]), row["state"] not in ENDED
    response = jsonify(summary=summarize(row), over=over, total=row["total"], live=live, cards=cards)
    response.headers["Cache-Control"] = "private, no-store"
    return response


@bp.get("/batches/<batch_id>/gallery/images/<int:number>")
@gallery_access_required
def image(row: Row, signed: dict[str, str], number: int) -> ResponseReturnValue:
    """Return an image of the gallery."""
    item, output = _find_image(row, number)
    data = output.read(item["file"])
    if data is None:
        raise ItemNotFound
    return _cacheable_response(data, item["sha256"])


@bp.get("/batches/<batch_id>/gallery/thumbnails/<int:number>")
@gallery_access_required
def thumbnail(row: Row, signed: dict[str, str], number: int) -> ResponseReturnValue:
    """Return a thumbnail of an image of the gallery."""
    item, output = _find_image(row, number)
    data = run_in_thread(partial(thumbnails.load_or_create_thumbnail, output, item["file"], item["sha256"]))
    if data is None:
        raise ItemNotFound
    return _cacheable_response(data, item["sha256"])


@bp.get("/batches/<batch_id>/gallery/images.zip")
@gallery_access_required
def all_images(row: Row, signed: dict[str, str]) -> ResponseReturnValue:
    """Return all images that are done as a zip, with the manifest."""
    response = Response(zip.stream_zip(_zip_entries(row)), content_type="application/zip")
    name = filenames.slugify(row["name"]).encode("ascii", "ignore").decode() or "batch"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}-{row["id"]}.zip"'
    response.headers["Cache-Control"] = "private, no-store"
    # nginx would otherwise buffer the whole zip.
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _zip_entries(row: Row) -> Iterator[tuple[str, float, bytes]]:
    """Return an iterator over name, time and content of each file in the zip.

    The iterator runs when the request's context is gone, so everything that it needs is taken from it here.
    """
    records = services().batches
    output = services().outputs.open(row["store"], row["folder"])

    def generate() -> Iterator[tuple[str, float, bytes]]:
        for offset in range(0, row["total"], ZIP_CHUNK_ITEMS):
            for item in records.list_items(row["id"], offset, ZIP_CHUNK_ITEMS):
                data = None
                if item["file"]:
                    data = output.read(item["file"])
                if data is not None:
                    yield item["file"], (item["finished_ms"] or 0) / 1000, data
        manifest = "".join(f"{line}\n" for line in records.manifest_lines(row["id"]))
        yield "manifest.jsonl", time.time(), manifest.encode()

    return generate()


def _cards(row: Row, signed: dict[str, str], page_number: int) -> list[Card]:
    cards = []
    for item in services().batches.list_items(row["id"], (page_number - 1) * PAGE_SIZE, PAGE_SIZE):
        if item["file"]:
            image_url = _signed_url(signed, f"gallery/images/{item['number']}")
            thumbnail_url = _signed_url(signed, f"gallery/thumbnails/{item['number']}")
            cards.append(build_card(item, image_url, thumbnail_url))
        else:
            cards.append(build_card(item))
    return cards


def _signed_url(signed: dict[str, str], path: str, **parameters: int) -> str:
    """Return a signed URL, relative to the batch's own, as the page needs it."""
    return f"{path}?{urlencode(parameters | signed)}"


def _find_image(row: Row, number: int) -> tuple[Row, Output]:
    """Return an item that is done, and the output with its image. Raises ItemNotFound."""
    item = services().batches.get_item(row["id"], number)
    if item is None or not item["file"]:
        raise ItemNotFound
    return item, services().outputs.open(row["store"], row["folder"])


def _cacheable_response(data: bytes, sha256: str) -> Response:
    response = image_response(data, sha256)
    response.headers["Cache-Control"] = "private, no-cache"
    response.make_conditional(request)
    return response


def _parse_page_number() -> int:
    text = request.args.get("page", "1")
    is_number = text.isascii() and text.isdecimal() and len(text) <= 6
    if not is_number or int(text) < 1:
        raise RequestError("'page' must be a number from 1 on")
    return int(text)
