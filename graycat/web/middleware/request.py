"""The request as the views see it. What is broken in it is the caller's error, whatever the server makes of it."""

from __future__ import annotations

import re
from typing import IO, cast

from flask import Request, request
from gunicorn.http.errors import ParseException
from werkzeug.datastructures import Authorization
from werkzeug.exceptions import ClientDisconnected
from werkzeug.utils import cached_property

from graycat.errors import GraycatError, RequestError
from graycat.front.connection import TOO_MANY_BYTES, TOO_SLOW
from graycat.front.errors import RequestTimeout, ServerBusy, UnsupportedEncoding, UnsupportedTransferEncoding

#: The form of a request id that a caller may send; any other is replaced.
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
#: The only encodings of bodies that views can read.
IDENTITY, CHUNKED = "identity", "chunked"


class CheckedRequest(Request):
    """A request whose broken body and whose unreadable credentials are the caller's error, not the server's."""

    @cached_property
    def stream(self) -> IO[bytes]:
        """Return the body's stream. Reading it raises RequestError if the body is cut off or its chunks are wrong."""
        connection = self.environ.get("gunicorn.socket")
        return cast(IO[bytes], WholeBody(super().stream, self.content_length, connection))

    @cached_property
    def authorization(self) -> Authorization | None:
        """Return the credentials; None for those that cannot be read."""
        try:
            return super().authorization
        except ValueError:
            # Werkzeug expects wrong base64, but no bytes outside of ASCII.
            return None


def check_encodings() -> None:
    """Raise UnsupportedEncoding or UnsupportedTransferEncoding for a body that no view could read."""
    if request.headers.get("Content-Encoding", IDENTITY).strip().lower() not in ("", IDENTITY):
        raise UnsupportedEncoding
    if request.headers.get("Transfer-Encoding", CHUNKED).strip().lower() not in ("", CHUNKED):
        raise UnsupportedTransferEncoding


class WholeBody:
    """A body's stream that does not end before the length that its request has announced.

    gunicorn ends it silently where the client has stopped sending: half a body may be a whole JSON object. graycat and
    Werkzeug read bodies with ``read`` alone.
    """

    def __init__(self, stream: IO[bytes], length: int | None, connection: object = None) -> None:
        self._stream = stream
        self._connection = connection
        self._length = length
        self._received = 0

    def read(self, size: int | None = -1) -> bytes:
        """Return up to ``size`` bytes, all that are left by default.

        Raises RequestError, RequestEntityTooLarge, RequestTimeout, ServerBusy.
        """
        if size is None:
            size = -1
        try:
            data = self._stream.read(size)
        except (ParseException, ClientDisconnected, OSError, ValueError):
            raise self._broken_error() from None
        self._received += len(data)
        is_at_end = size < 0 or (size > 0 and not data)
        if is_at_end and self._length is not None and self._received < self._length:
            raise RequestError(f"the request body has {self._received} of the {self._length} bytes that it announces")
        return data

    def _broken_error(self) -> GraycatError:
        cut = getattr(self._connection, "cut", "")
        if cut == TOO_SLOW:
            return RequestTimeout()
        if cut == TOO_MANY_BYTES:
            return ServerBusy()
        return RequestError("the request body is cut off, or its chunks are not HTTP's")
