from __future__ import annotations

from graycat.errors import LimitExceeded


def test_where_waiting_does_not_help_nobody_is_told_to_wait() -> None:
    assert (LimitExceeded("too much").retry_after_s, LimitExceeded("too much").headers) == (None, {})


def test_where_it_helps_the_caller_is_told_how_long() -> None:
    error = LimitExceeded("too often", 7, {"RateLimit-Remaining": "0"})
    assert (error.retry_after_s, error.headers) == (7, {"RateLimit-Remaining": "0"})
