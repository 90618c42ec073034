"""Which web pages may call the API, and the headers that tell their browsers so (CORS, https://fetch.spec.whatwg.org).

Browsers are told about the origins of ``GRAYCAT_CORS_ORIGINS`` alone, and never to send cookies or passwords: a page
has to hold an API token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

#: Headers of answers that a page may read, beside those that it always may (Content-Type, Cache-Control, ...).
EXPOSED = (
    "Content-Disposition, ETag, Graycat-Answer-Age, Location, Preference-Applied, RateLimit-Limit, "
    "RateLimit-Remaining, RateLimit-Reset, Retry-After, WWW-Authenticate, X-Request-ID, X-Should-Retry"
)
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
#: Headers that a page may send. The star is for what clients add of their own; it does not stand for Authorization.
#: The others are for browsers that do not know the star.
ALLOWED = (
    "Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, Prefer, X-Api-Key, X-Request-ID, *"
)
#: Seconds for which a browser need not ask again; Chromium's largest value.
MAX_AGE_S = 7200

#: The header in the bytes of a request's head.
_ORIGIN = re.compile(rb"\r\norigin:[ \t]*([!-~]{1,256})[ \t]*\r\n", re.IGNORECASE)
#: How many bytes before a piece of a head may belong to the header.
_OVERLAP = 300


class Cors:
    """The headers for the pages of some origins. Without origins it does nothing."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origins)
        #: For an answer to a request that was not read: a browser ignores it on the page of any other origin.
        self._unread = ""
        if len(self._origins) == 1:
            (self._unread,) = self._origins

    def __bool__(self) -> bool:
        return bool(self._origins)

    def allows(self, origin: str) -> bool:
        """Return whether the pages of an origin may call the API."""
        return origin in self._origins

    def headers(self, origin: str) -> list[tuple[str, str]]:
        """Return the headers of an answer to a request with this ``Origin``; '' if it has none."""
        if not self._origins:
            return []
        # Always: a cache must not give one page the answer for another.
        found = [("Vary", "Origin")]
        if origin in self._origins:
            found += [("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", EXPOSED)]
        return found

    def preflight_headers(self, origin: str) -> list[tuple[str, str]]:
        """Return the headers of the answer to a browser that asks whether it may send a request."""
        return [
            ("Vary", "Origin"),
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Allow-Methods", METHODS),
            ("Access-Control-Allow-Headers", ALLOWED),
            ("Access-Control-Max-Age", str(MAX_AGE_S)),
        ]

    def unread_headers(self, origin: str = "") -> list[tuple[str, str]]:
        """Return the headers of an answer that is sent before a request is read to its end.

        ``origin``: what was seen of its head. If nothing was, and there is one origin alone, the answer is for that.
        """
        return self.headers(origin or self._unread)


class OriginFinder:
    """Finds the ``Origin`` in a request's head while it comes in pieces."""

    __slots__ = ("_end", "found")

    def __init__(self) -> None:
        self.found = ""
        self._end = b""

    def look(self, piece: bytes) -> None:
        """Look at the next piece of the head."""
        if self.found:
            return
        text = self._end + piece
        match = _ORIGIN.search(text)
        if match is not None:
            self.found = match[1].decode("ascii")
        self._end = text[-_OVERLAP:]

    def forget(self) -> None:
        """Begin with the next request."""
        self.found = ""
        self._end = b""
