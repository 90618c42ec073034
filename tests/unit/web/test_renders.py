from __future__ import annotations

from functools import partial

import gevent
import pytest

from graycat.errors import RequestError
from graycat.web.renders import aside


def fail(prompt: str) -> str:
    raise RequestError(f"cannot be used: {len(prompt)} characters")


def test_work_aside_returns_what_it_returns() -> None:
    assert aside(partial(str.upper, "a fox")) == "A FOX"


def test_work_aside_that_fails_raises_its_error_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RequestError, match="13 characters"):
        aside(partial(fail, "a secret wish"))
    gevent.sleep(0)
    assert capfd.readouterr() == ("", "")
