"""Answers that are written straight to a connection, in graycat's form."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from gunicorn.http import errors as gunicorn_errors

from graycat.errors import GraycatError, RequestError
from graycat.front.errors import (
    ExpectationFailed,
    HeadersTooLarge,
    MalformedRequest,
    UnsupportedTransferEncoding,
    UriTooLong,
)

#: What gunicorn raises for a client's mistake, and what graycat answers. Some releases lack some of these.
_BY_NAME: dict[str, type[GraycatError]] = {
    "LimitRequestLine": UriTooLong,
    "LimitRequestHeaders": HeadersTooLarge,
    "ExpectationFailed": ExpectationFailed,
    "UnsupportedTransferCoding": UnsupportedTransferEncoding,
}
#: Chunks that are not HTTP's: in older releases these are no parse errors.
_CHUNK_ERRORS = ("InvalidChunkSize", "ChunkMissingTerminator", "InvalidChunkExtension")


def error_of(failure: BaseException) -> GraycatError | None:
    """Return what a client is told that sent something which is not HTTP; None for a failure that is not its own."""
    if isinstance(failure, RequestError):
        return failure
    name = type(failure).__name__
    if isinstance(failure, gunicorn_errors.ConfigurationProblem) or name.startswith("InvalidResponseHeader"):
        return None
    if name in _BY_NAME:
        return _new(_BY_NAME[name])
    if isinstance(failure, gunicorn_errors.ParseException) or name in _CHUNK_ERRORS:
        return MalformedRequest()
    return None


def _new(error_class: type[GraycatError]) -> GraycatError:
    return error_class()


def error_reply(error: GraycatError, more_headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """Return an error as a whole HTTP answer, after which the connection is closed."""
    body = error.encoded()
    try:
        phrase = HTTPStatus(error.status).phrase
    except ValueError:
        phrase = "Error"
    lines = [
        f"HTTP/1.1 {error.status} {phrase}",
        "Content-Type: application/json; charset=utf-8",
        "X-Content-Type-Options: nosniff",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    if error.retry_after_s is not None:
        lines.append(f"Retry-After: {error.retry_after_s}")
    lines += [f"{name}: {value}" for name, value in more_headers]
    head = "\r\n".join(lines)
    return f"{head}\r\n\r\n".encode() + body
