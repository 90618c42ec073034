"""Security headers of every answer: what a browser may do with it."""

from __future__ import annotations

from flask import Response

#: The policy of a page that has none of its own: styles in the page, nothing else, in nobody's frame.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)  # fmt: skip
POLICY_HEADER = "Content-Security-Policy"
#: Headers of every page, unless its view has set them.
PAGE_HEADERS = {POLICY_HEADER: POLICY, "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"}


def add_security_headers(response: Response) -> Response:
    """Have a browser believe the content type, and keep a page to itself."""
    response.headers["X-Content-Type-Options"] = "nosniff"
    if response.mimetype == "text/html":
        for name, value in PAGE_HEADERS.items():
            response.headers.setdefault(name, value)
    return response
