from __future__ import annotations

import pytest

from graycat.client import connection_errors
from graycat.client.error_parsing import parse_error
from graycat.front import errors
from graycat.front.replies import error_reply


@pytest.mark.parametrize("name", ["TooManyConnections", "ServerBusy", "RequestTimeout", "HeadersTooLarge"])
def test_an_answer_of_the_front_is_read_as_its_error(name: str) -> None:
    error = getattr(errors, name)()
    body = error_reply(error).partition(b"\r\n\r\n")[2]
    found = parse_error(error.status, body, error.retry_after_s)
    assert type(found) is getattr(connection_errors, name)
    assert (found.message, found.retry_after_s) == (str(error), error.retry_after_s)
