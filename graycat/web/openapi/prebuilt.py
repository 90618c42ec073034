"""Answers that are the same for everybody: built and compressed once a process, not sent again to who has them."""

from __future__ import annotations

import gzip
import hashlib

from flask import Response, request

#: Caches may keep such an answer this many seconds; after that they ask with its entity tag.
MAX_AGE_S = 300
GZIP = "gzip"


class PrebuiltAnswer:
    """The body of such an answer, as it is and compressed."""

    def __init__(self, body: bytes, content_type: str) -> None:
        self._body = body
        self._compressed = gzip.compress(body, mtime=0)
        self._content_type = content_type
        self._tag = hashlib.sha256(body).hexdigest()[:32]

    def response(self) -> Response:
        """Return the answer to the current request: 304 if its client has it already."""
        body = self._body
        headers = {"Cache-Control": f"public, max-age={MAX_AGE_S}", "Vary": "Accept-Encoding"}
        if request.accept_encodings.quality(GZIP) > 0:
            body = self._compressed
            headers["Content-Encoding"] = GZIP
        response = Response(body, content_type=self._content_type, headers=headers)
        # Weak: the same tag stands for both encodings.
        response.set_etag(self._tag, weak=True)
        response.make_conditional(request)
        if response.status_code == 304:
            response.headers.pop("Content-Encoding", None)
        return response
