from __future__ import annotations

import pytest

from graycat.client.error_parsing import parse_error
from graycat.client.errors import QueueFull, RequestError, ServerError, Unavailable


def test_an_answer_says_what_went_wrong() -> None:
    error = parse_error(503, b'{"error": {"code": 503, "type": "queue_full", "message": "full"}}', 5.0)
    assert type(error) is QueueFull
    assert (error.status, error.type, error.message, error.retry_after_s) == (503, "queue_full", "full", 5.0)


def test_an_unknown_type_keeps_its_name_and_gets_the_base_of_its_status() -> None:
    statuses = (400, 418, 500, 502, 503)
    errors = [parse_error(status, b'{"error": {"type": "newer", "message": "no"}}') for status in statuses]
    assert [type(error) for error in errors] == [RequestError, RequestError, ServerError, ServerError, Unavailable]
    assert {error.type for error in errors} == {"newer"}


@pytest.mark.parametrize("body", [b"<h1>Bad Gateway</h1>", b"", b"[]", b'{"error": null}', b'{"detail": "x"}'])
def test_an_error_that_is_not_graycat_s_is_raised_by_its_status(body: bytes) -> None:
    error = parse_error(502, body)
    assert (type(error), error.type) == (ServerError, "server_error")
    assert "502" in str(error)
