from __future__ import annotations

from graycat.schedules.errors import ScheduleNotFound, TooManySchedules


def test_who_has_too_many_is_told_how_many_that_are_and_not_to_wait() -> None:
    assert "200" in str(TooManySchedules(200))
    assert TooManySchedules(200).retry_after_s is None


def test_who_looks_for_what_is_not_there_is_told_where_to_look() -> None:
    assert "GET /schedules" in str(ScheduleNotFound())
