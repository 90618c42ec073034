"""Tells browsers which pages may call the API: on every answer of it, and before a browser sends a request (CORS).

It stands around the application, because some answers are made before Flask (``not_modified.py``). The front of the
web process (``graycat/front/``) adds the same headers to its own answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from graycat.front.cors import Cors
from graycat.metrics import web as metrics

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

#: What is no API: pages, and what pages show. A link to a gallery is made by the API.
PAGES = re.compile(r"/|/page/.*|/docs(?:/.*)?|/metrics|/batches/[^/]+/gallery(?:/(?!link$).*)?")
#: Under which route preflights are counted.
ROUTE = "preflight"


class CorsMiddleware:
    """WSGI middleware for a server that some pages may call."""

    def __init__(self, app: WsgiApp, cors: Cors) -> None:
        self._app = app
        self._cors = cors

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a preflight; pass any other request to the application, and add the headers to its answer."""
        if PAGES.fullmatch(environ.get("PATH_INFO", "")):
            return self._app(environ, start_response)
        origin = environ.get("HTTP_ORIGIN", "")
        if is_preflight(environ) and self._cors.allows(origin):
            # It has no API token and needs none: it says nothing that is not said to everybody.
            metrics.count_preflight(ROUTE)
            start_response("204 NO CONTENT", self._cors.preflight_headers(origin))
            return []

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            return start_response(status, [*headers, *self._cors.headers(origin)], *exc_info)

        return self._app(environ, start)


def is_preflight(environ: dict[str, Any]) -> bool:
    """Return whether a browser asks what a page may send."""
    return environ["REQUEST_METHOD"] == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
