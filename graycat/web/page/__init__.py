"""The page at ``/``: what this server is, whether it is ready, and, with an API token, a client of its API.

The server writes what anybody may know. Everything else is asked by the page's script, from the public API, with the
API token that somebody has typed in. Docs: ``docs/page.md``.
"""

from __future__ import annotations

import hashlib

from flask import Blueprint, Response, abort, jsonify, render_template, request
from flask.typing import ResponseReturnValue

from graycat import __version__
from graycat.web.page import assets, readiness
from graycat.web.services import services

bp = Blueprint("page", __name__, template_folder="templates")

#: The content security policy: scripts and styles from this server's own files, and texts are never taken for code.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types"
)
HTML = "text/html"
#: What a client that asks for no page may want next.
LINKS = {"health": "/health", "ready": "/ready", "docs": "/docs", "openapi": "/openapi.json"}


@bp.get("/")
def index() -> ResponseReturnValue:
    """Show the page to who asks for HTML; to any other client, a short JSON that says that this server is alive."""
    if _wants_html():
        response = _page()
    else:
        response = jsonify(name="graycat", version=__version__, status="ok", links=LINKS)
    response.headers["Vary"] = "Accept"
    return response


def _wants_html() -> bool:
    """Return whether the client names HTML, as browsers do. Health checks and libraries take anything, or JSON."""
    accepted = request.accept_mimetypes
    named = dict(accepted).get(HTML, 0)
    return named > 0 and named >= accepted["application/json"]


def _page() -> Response:
    digest, _ = assets.load()
    html = render_template(
        "page.html",
        version=__version__,
        assets=f"page/{digest}",
        readiness=readiness.read(services()),
        address=services().settings.public_base or request.root_url.removesuffix("/"),
    )
    response = Response(html, content_type=f"{HTML}; charset=utf-8")
    response.headers["Content-Security-Policy"] = POLICY
    # Asked again each time: it says whether graycat is ready.
    response.headers["Cache-Control"] = "no-cache"
    response.set_etag(hashlib.sha256(html.encode()).hexdigest()[:32], weak=True)
    response.make_conditional(request)
    return response


@bp.get("/page/state")
def state() -> ResponseReturnValue:
    """Tell anybody whether this server can answer, as the page does: always with 200, and without names."""
    response = jsonify(readiness.read(services()).to_dict())
    response.headers["Cache-Control"] = "no-store"
    return response


@bp.get("/page/<digest>/<name>")
def asset(digest: str, name: str) -> ResponseReturnValue:
    """Return a file of the page."""
    current, files = assets.load()
    if digest != current or name not in files:
        abort(404)
    return files[name].response()
