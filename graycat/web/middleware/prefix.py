"""The path in ``GRAYCAT_PUBLIC_URL``: it may stand before the path of any request, or be taken away by a proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask

from graycat.errors import SettingsError
from graycat.settings import Settings, variable

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class PrefixMiddleware:
    """WSGI middleware that takes the prefix from the path of a request, if it is there."""

    def __init__(self, app: WsgiApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Pass a request to the application, which then builds its own addresses below the prefix."""
        environ["SCRIPT_NAME"] = self._prefix
        environ["PATH_INFO"] = without_prefix(environ.get("PATH_INFO", ""), self._prefix)
        return self._app(environ, start_response)


def without_prefix(path: str, prefix: str) -> str:
    """Return a path without a prefix that stands before it."""
    if path.startswith(prefix + "/"):
        return path[len(prefix) :]
    return path


def init_app(app: Flask, settings: Settings) -> None:
    """Let an application take the prefix of its settings. Call it when all routes are there.

    Raises SettingsError for a prefix that begins as a route does: with it, a path could mean two things.
    """
    prefix = settings.public_prefix
    if not prefix:
        return
    first = prefix.split("/")[1]
    for rule in app.url_map.iter_rules():
        if rule.rule.split("/")[1] == first:
            raise SettingsError(f"{variable('public_url')}: graycat has routes of its own below /{first}; name another")
    app.wsgi_app = PrefixMiddleware(app.wsgi_app, prefix)  # type: ignore[method-assign]
