from __future__ import annotations

import json

import pytest
from gunicorn.http import errors

from graycat.errors import GraycatError
from graycat.front.errors import MalformedRequest, ServerBusy
from graycat.front.replies import error_of, error_reply


def test_a_reply_is_a_whole_answer() -> None:
    head, _, body = error_reply(ServerBusy()).partition(b"\r\n\r\n")
    assert head.splitlines() == [
        b"HTTP/1.1 503 Service Unavailable",
        b"Content-Type: application/json; charset=utf-8",
        b"X-Content-Type-Options: nosniff",
        b"Content-Length: %d" % len(body),
        b"Connection: close",
        b"Retry-After: 2",
    ]
    assert json.loads(body) == ServerBusy().body()


def test_a_status_without_a_name_can_be_sent() -> None:
    error = GraycatError("no")
    error.status = 499
    assert error_reply(error).startswith(b"HTTP/1.1 499 Error\r\n")


@pytest.mark.parametrize("name", ["InvalidRequestLine", "InvalidHeader", "InvalidChunkSize", "ChunkMissingTerminator"])
def test_what_gunicorn_cannot_read_is_the_client_s_fault(name: str) -> None:
    assert isinstance(error_of(getattr(errors, name)(b"x")), MalformedRequest)


@pytest.mark.parametrize("failure", [RuntimeError("x"), OSError("x"), errors.ConfigurationProblem("x")])
def test_anything_else_is_not(failure: Exception) -> None:
    assert error_of(failure) is None
