from __future__ import annotations

import json
import logging
import time

import pytest

from graycat.errors import BrokerUnavailable
from graycat.loops import unexpected
from graycat.loops.unexpected import MAX_LINES_PER_S, UNEXPECTED, guarded


def count(where: str) -> float:
    value: float = UNEXPECTED.labels(where)._value.get()
    return value


def test_a_loop_goes_on_behind_an_item_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    before, done = count("a loop"), []
    for item in ('{"a": 1}', "{half", '{"a": 3}'):
        with guarded("a loop"):
            done.append(json.loads(item)["a"])
    assert done == [1, 3]
    assert count("a loop") == before + 1


def test_the_log_has_the_type_and_the_place_and_no_word_of_the_item(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), guarded("a loop"):
        raise ValueError("a secret prompt")
    (record,) = caplog.records
    assert (record.where, record.error) == ("a loop", "ValueError")
    assert record.at.startswith("test_unexpected.py:")
    assert "secret" not in caplog.text


def test_a_flood_of_the_same_error_is_counted_and_some_of_it_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [time.monotonic() + 10.0]
    monkeypatch.setattr(unexpected, "monotonic", lambda: now[0])
    before = count("a flooded loop")
    for _ in range(3):
        caplog.clear()
        now[0] += 1.0
        for _ in range(1000):
            with guarded("a flooded loop"):
                raise ValueError
        with guarded("a flooded loop"):
            raise KeyError
        assert [record.error for record in caplog.records] == ["ValueError"] * MAX_LINES_PER_S + ["KeyError"]
    assert count("a flooded loop") == before + 3003


def test_what_the_loop_itself_handles_is_let_through() -> None:
    before = count("a loop")
    with pytest.raises(BrokerUnavailable), guarded("a loop", let_through=(BrokerUnavailable,)):
        raise BrokerUnavailable
    assert count("a loop") == before


def test_an_item_is_set_aside_with_its_reason() -> None:
    reasons: list[str] = []
    with guarded("a loop", set_aside=reasons.append):
        raise KeyError("state")
    assert reasons == ["KeyError"]


def test_setting_aside_may_fail_as_well() -> None:
    def fail(_reason: str) -> None:
        raise BrokerUnavailable

    before = count("a loop")
    with guarded("a loop", set_aside=fail):
        raise KeyError("state")
    assert count("a loop") == before + 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_end_of_the_process_is_no_item(error: type[BaseException]) -> None:
    with pytest.raises(error), guarded("a loop"):
        raise error
