"""The guides of ``docs/`` as pages below ``/docs/guides``, rendered when they are first asked for."""

from __future__ import annotations

import threading
from functools import cache

from flask import Blueprint, Response, abort, render_template, request, url_for
from flask.typing import ResponseReturnValue

from graycat.web.compat.image_tasks import run_in_thread
from graycat.web.docs import library
from graycat.web.docs.library import PICTURES, Library
from graycat.web.docs.markdown import render
from graycat.web.docs.reference import HTML
from graycat.web.docs.search import MAX_CHARS, Index
from graycat.web.middleware.headers import POLICY_HEADER
from graycat.web.prebuilt import prebuilt

_building = threading.Lock()

bp = Blueprint("guides", __name__, template_folder="templates")

#: No script; a form for the search.
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


@cache
def guides() -> Library:
    """Return the guides; a process reads them once."""
    return Library.read()


@cache
def _build_index() -> Index:
    found = guides()
    return Index(guide for name in (library.GUIDES, library.DECIDED, library.PROJECT) for guide in found.section(name))


def search_index() -> Index:
    """Return the index of the search. Many who ask at once, before there is one, wait for the same one."""
    # A quarter of a second of a processor: in a thread, so that other clients are served meanwhile.
    with _building:
        return run_in_thread(_build_index)


@bp.get("/docs/guides", strict_slashes=False)
def index() -> ResponseReturnValue:
    """Show the index of the guides; with ``q``, the sections that have its words."""
    question = request.args.get("q")
    if question is None:
        return _page("")
    results = search_index().find(question)
    return _with_policy(Response(_layout("search", question=question[:MAX_CHARS], results=results), content_type=HTML))


@bp.get("/docs/guides/<path:slug>")
def page(slug: str) -> ResponseReturnValue:
    """Show a guide, or a picture of one."""
    picture = guides().pictures.get(slug)
    if picture is not None:
        return _with_policy(prebuilt(f"picture {slug}", PICTURES[picture.suffix], picture.read_bytes))
    return _page(slug)


def _page(slug: str) -> Response:
    guide = guides().by_slug.get(slug)
    if guide is None:
        abort(404)
    rendered = prebuilt(
        f"guide {slug}", HTML, lambda: _layout("page", guide=guide, page=render(guides(), guide, address))
    )
    return _with_policy(rendered)


def _with_policy(response: Response) -> Response:
    response.headers[POLICY_HEADER] = POLICY
    return response


def _layout(name: str, **values: object) -> str:
    links = {
        "css": url_for("docs.asset", name="docs.css"),
        "reference": url_for("docs.page"),
        "search": url_for("guides.index"),
    }
    shared = {"library": guides(), "sections": library, "links": links, "address": address}
    return render_template(f"docs/{name}.html", **shared, **values)


def address(slug: str) -> str:
    """Return the address of a guide on this server."""
    if not slug:
        return url_for("guides.index")
    return url_for("guides.page", slug=slug)
