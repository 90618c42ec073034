"""The API reference at ``/docs``: Swagger UI over ``/openapi.json``.

Its files come from the package ``flask-swagger-ui``. The page is our own: theirs has a script inline, which the policy
forbids.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from urllib.parse import urlsplit

from flask import Blueprint, Response, abort, render_template
from flask.typing import ResponseReturnValue

from graycat import __version__
from graycat.web.middleware.headers import POLICY_HEADER
from graycat.web.prebuilt import prebuilt
from graycat.web.services import services

bp = Blueprint("docs", __name__, template_folder="templates")

HTML = "text/html; charset=utf-8"
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
_OWN, _SWAGGER_UI = "graycat.web.docs", "flask_swagger_ui"
#: Each file that the pages load, and where it lies. No other file can be asked for.
ASSETS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "swagger-ui-bundle.js": (_SWAGGER_UI, "dist"),
        "swagger-ui.css": (_SWAGGER_UI, "dist"),
        "reference.js": (_OWN, "static"),
        "reference.css": (_OWN, "static"),
        "docs.css": (_OWN, "static"),
    }
)


@bp.get("/docs", strict_slashes=False)
def page() -> ResponseReturnValue:
    """Show the API reference; it loads nothing from other sites."""
    response = prebuilt("docs", HTML, lambda: render_template("docs/reference.html", version=__version__))
    response.headers[POLICY_HEADER] = reference_policy(services().settings.public_base)
    return response


def reference_policy(public_base: str) -> str:
    """Return the policy of the reference: its own files, and requests to this server alone.

    Swagger UI shows icons that are written into its styles and its code (``data:``). It sets styles by script, which
    ``style-src 'self'`` allows.
    """
    servers = "'self'"
    public = urlsplit(public_base)
    if public.netloc:
        servers += f" {public.scheme}://{public.netloc}"
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src {servers}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@bp.get("/docs/assets/<name>")
def asset(name: str) -> ResponseReturnValue:
    """Return a file that the pages load."""
    if name not in ASSETS:
        abort(404)
    return asset_response(name)


def asset_response(name: str) -> Response:
    """Return the response of a file of ``ASSETS``."""
    package, folder = ASSETS[name]
    content_type = _TYPES[name.rpartition(".")[2]]
    return prebuilt(f"asset {name}", content_type, lambda: files(package).joinpath(folder, name).read_bytes())
