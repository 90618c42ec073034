"""Slashes that stand twice in a path are one: ``//v1/models`` is what a base address with a slash at its end makes.

Flask would answer 308 and a page of HTML. Some clients follow that with a GET, some not at all, and behind a proxy its
address may lead elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_SLASHES = re.compile("/{2,}")


class SlashesMiddleware:
    """WSGI middleware that writes each run of slashes in a request's path as one."""

    def __init__(self, app: WsgiApp) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Pass a request to the application."""
        path = environ.get("PATH_INFO", "")
        if "//" in path:
            environ["PATH_INFO"] = _SLASHES.sub("/", path)
        return self._app(environ, start_response)
