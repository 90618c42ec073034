"""The links that callers get."""

from __future__ import annotations

from flask import Response, request

from graycat.web.services import services


def link(path: str) -> str:
    """Return the link to a path of this server: below ``GRAYCAT_PUBLIC_URL``, or the path alone if that is not set."""
    return services().settings.public_base + path


def make_public(response: Response) -> None:
    """Put the public address into a redirection, which Flask builds out of what the client calls this server."""
    base = services().settings.public_base
    location = response.headers.get("Location", "")
    if not base or not location:
        return
    called = request.root_url.removesuffix("/")
    if location.startswith(called + "/"):
        response.headers["Location"] = base + location.removeprefix(called)
