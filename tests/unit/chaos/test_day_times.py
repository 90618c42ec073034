"""The calendar of the simulated day, which knows nothing of the code that it judges."""

from __future__ import annotations

from datetime import datetime

import pytest

from chaos.day_times import Plan, key_time, nominal_times, show
from graycat.schedules.definition import Schedule

#: Of graycat only names of keys are used here.
pytestmark = pytest.mark.not_covered

FORWARD, BACK = "2027-03-28T00:00+00:00", "2027-10-31T00:00+00:00"


def second(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def times(cron: str, begin: str, hours: int = 3, timezone: str = "Europe/Berlin") -> list[str]:
    start = second(begin) - 1
    return [show(time)[11:16] for time in nominal_times(cron, timezone, start, start + hours * 3600)]


def test_a_fixed_time_comes_behind_the_gap_and_once_where_it_comes_twice() -> None:
    assert times("30 2 * * *", FORWARD) == ["01:00"]
    assert times("30 2 * * *", BACK) == ["00:30"]
    assert times("30 3 * * *", FORWARD) == ["01:30"]


def test_what_follows_the_wall_clock_comes_in_each_hour_that_there_is() -> None:
    assert times("*/30 2 * * *", FORWARD) == []
    assert times("*/30 2 * * *", BACK) == ["00:00", "00:30", "01:00", "01:30"]
    assert times("0 * * * *", FORWARD) == times("0 * * * *", BACK) == ["00:00", "01:00", "02:00"]


def test_zones_of_half_and_quarter_hours() -> None:
    assert times("30 * * * *", FORWARD, timezone="Asia/Kathmandu") == ["00:45", "01:45", "02:45"]


@pytest.mark.parametrize(
    ("missed", "fired"), [("all", ["01:00", "02:00", "03:00"]), ("once", ["03:00"]), ("skip", ["03:00"])]
)
def test_what_is_fired_after_an_outage(missed: str, fired: list[str]) -> None:
    plan = Plan("hourly", "0 * * * *", "UTC", missed)
    plan.begin(second(FORWARD), second(FORWARD) + 5 * 3600)
    plan.serve(second("2027-03-28T03:00:02+00:00"))
    assert [show(time)[11:16] for time in plan.fired] == fired
    assert [show(time)[11:16] for time in plan.pending] == ["04:00"]


def test_jitter_makes_a_time_due_later() -> None:
    plan = Plan("late", "0 * * * *", "UTC", "all", jitter_s=120)
    plan.begin(second(FORWARD), second(FORWARD) + 7200)
    assert plan.newest_due(second("2027-03-28T01:01:59+00:00")) == 0
    assert show(plan.newest_due(second("2027-03-28T01:02:00+00:00"))) == "2027-03-28 01:00Z"


def test_a_batch_s_key_tells_the_nominal_time() -> None:
    document = Plan("nightly", "0 1 * * *", "UTC", "all").document()
    schedule = Schedule(owner="art", **{name: document[name] for name in ("name", "cron", "timezone", "spec")})
    assert key_time(schedule.batch_key(second(FORWARD))) == second(FORWARD)
