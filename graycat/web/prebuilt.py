"""Answers that are the same for everybody: built and compressed once a process, not sent again to who has them."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable

from flask import Response, current_app, request

#: Caches may keep such an answer this many seconds; after that they ask with its entity tag.
MAX_AGE_S = 300
GZIP = "gzip"
#: Nearly as small as with the most effort, in a third of the time: other requests wait meanwhile.
EFFORT = 6


class PrebuiltAnswer:
    """The body of such an answer, as it is and compressed."""

    def __init__(
        self, body: bytes, content_type: str, cache_control: str = f"public, max-age={MAX_AGE_S}"
    ) -> None:  # fmt: skip
        self._body = body
        self._cache_control = cache_control
        self._compressed = gzip.compress(body, EFFORT, mtime=0)
        self._content_type = content_type
        self._tag = hashlib.sha256(body).hexdigest()[:32]

    def response(self) -> Response:
        """Return the answer to the current request: 304 if its client has it already."""
        body = self._body
        headers = {"Cache-Control": self._cache_control, "Vary": "Accept-Encoding"}
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


def prebuilt(name: str, content_type: str, build: Callable[[], str | bytes]) -> Response:
    """Return an answer of this process, built at the first request for it. ``name`` stands for it in this process."""
    answers: dict[str, PrebuiltAnswer] = current_app.extensions.setdefault("graycat.prebuilt", {})
    found = answers.get(name)
    if found is None:
        body = build()
        if isinstance(body, str):
            body = body.encode()
        found = PrebuiltAnswer(body, content_type)
        answers[name] = found
    return found.response()
