"""Images in responses. A worker may be anybody's, so what it calls an image may be a page with a script."""

from __future__ import annotations

from flask import Response

from graycat.images.replies import UNKNOWN, content_type


def image_response(data: bytes, etag: str = "") -> Response:
    """Return a response with an image, whose type is told by its first bytes alone.

    What is none of the formats that engines make is a download; a browser shows nothing of it.
    """
    kind = content_type(data)
    response = Response(data, content_type=kind)
    response.headers["X-Content-Type-Options"] = "nosniff"
    # SVG is none of them; if one ever is, it runs nothing.
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    if kind == UNKNOWN:
        response.headers["Content-Disposition"] = "attachment"
    if etag:
        response.set_etag(etag)
    return response
