from __future__ import annotations

import pytest

from graycat.client.error_parsing import build_error
from graycat.client.errors import RequestError, Unauthorized


@pytest.mark.parametrize("kind", ["token_unknown", "token_revoked", "token_expired"])
def test_who_catches_a_refused_token_need_not_know_why(kind: str) -> None:
    error = build_error(401, {"type": kind, "message": "no"})
    assert isinstance(error, Unauthorized)
    assert error.type == kind


def test_two_tokens_at_once_are_a_fault_of_the_request() -> None:
    error = build_error(400, {"type": "conflicting_credentials", "message": "no"})
    assert isinstance(error, RequestError)
    assert not isinstance(error, Unauthorized)
