from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graycat.schedules.due import (
    MAX_FIRES_PER_STEP,
    MISSED_AFTER_S,
    MISSED_POLICIES,
    Cron,
    Due,
    Timing,
    find_due,
    next_times,
)
from graycat.schedules.errors import InvalidSchedule

MINUTE, HOUR, DAY = 60, 3600, 86_400
#: A day on which clocks are put forward, and one on which they are put back, where that is done: north, south, at
#: midnight, and by half an hour.
FORWARD = {
    "Europe/Berlin": "2027-03-28",
    "America/New_York": "2027-03-14",
    "Australia/Sydney": "2027-10-03",
    "Africa/Cairo": "2027-04-30",
    "Australia/Lord_Howe": "2027-10-03",
}
BACK = {
    "Europe/Berlin": "2027-10-31",
    "America/New_York": "2027-11-07",
    "Australia/Sydney": "2027-04-04",
    "Africa/Cairo": "2027-10-28",
    "Australia/Lord_Howe": "2027-04-04",
}
CHANGES = [(zone, day) for days in (FORWARD, BACK) for zone, day in days.items()]
#: Within these, hypothesis makes moments.
FIRST, LAST = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()), int(datetime(2029, 1, 1, tzinfo=UTC).timestamp())
MOMENTS = st.integers(FIRST, LAST)
ZONES = st.sampled_from([*FORWARD, "UTC", "Asia/Kolkata"])
#: Between looks, in steps of 37 seconds.
PAUSES = st.lists(st.integers(1, 40), min_size=3)
EXPRESSIONS = st.sampled_from(
    ["* * * * *", "*/7 * * * *", "0 * * * *", "*/20 2 * * *", "30 2 * * *", "0 0 * * *", "15,45 1-3 * * 0", "5 4 1 * *"]
    + ["59 23 31 12 *", "0 12 * * MON#1", "0 3 L * *", "@daily", "@hourly"]
)


def instant(zone: str, text: str, fold: int = 0) -> int:
    """Return the seconds of a time on the wall; ``fold`` 1: the second time that the clock shows it."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp())


def midnights(zone: str, day: str) -> tuple[int, int]:
    """Return the first second of a day and that of the next."""
    begin = datetime.fromisoformat(day)
    return tuple(int((begin + timedelta(days=n)).replace(tzinfo=ZoneInfo(zone)).timestamp()) for n in (0, 1))  # type: ignore[return-value]


def within(cron: Cron, begin: int, end: int) -> list[int]:
    """Return the nominal times from ``begin`` to just before ``end``."""
    found = []
    for time in cron.after(begin - 1):
        if time >= end:
            break
        found.append(time)
    return found


def simulate(timing: Timing, begin: int, end: int, every_s: int) -> tuple[list[int], int]:
    """Look at a schedule every so often; return what was fired, and the last mark."""
    mark = begin - 1
    fired: list[int] = []
    for now in range(begin, end, every_s):
        found = find_due(timing, mark, now)
        assert found.passed_over is None
        fired += found.fire
        mark = found.handled_until
    return fired, mark


# Simulations are many steps of the same lines: counting these each time would take longer than running them.
@pytest.mark.not_covered
@pytest.mark.parametrize(
    ("zone", "day", "missed"), [(*change, "once") for change in CHANGES] + [(*CHANGES[0], "skip"), (*CHANGES[5], "all")]
)
def test_a_minute_wise_schedule_fires_each_minute_of_a_night_once_also_where_clocks_change(zone, day, missed) -> None:
    begin, end = midnights(zone, day)
    assert end - begin != DAY
    # Clocks change in the first hours.
    end = begin + 5 * HOUR
    fired, _ = simulate(Timing(Cron("* * * * *", zone), missed), begin, end, every_s=20)
    assert fired == list(range(begin, end, MINUTE))


@pytest.mark.not_covered
@pytest.mark.parametrize(("zone", "day"), CHANGES)
@pytest.mark.parametrize("clock", ["00:30", "01:30", "02:00", "02:15", "02:30", "03:00", "12:00", "23:59"])
def test_a_fixed_time_comes_once_on_a_day_on_which_clocks_change(zone, day, clock) -> None:
    begin, end = midnights(zone, day)
    hour, minute = clock.split(":")
    cron = Cron(f"{int(minute)} {int(hour)} * * *", zone)
    fired, _ = simulate(Timing(cron), begin, end + 5 * MINUTE, every_s=5 * MINUTE)
    assert len(fired) == 1
    shown = cron.at(fired[0])
    wanted = datetime.fromisoformat(f"{day}T{clock}")
    # As it was written, or within the hour that was missing.
    assert shown.replace(tzinfo=None) - wanted in {timedelta(0), *(timedelta(minutes=n) for n in (15, 30, 45, 60))}


def test_a_time_in_the_gap_comes_right_behind_it_and_one_that_comes_twice_comes_the_first_time() -> None:
    zone = "Europe/Berlin"
    cron = Cron("30 2 * * *", zone)
    assert within(cron, *midnights(zone, FORWARD[zone])) == [instant(zone, "2027-03-28T03:00")]
    first, second = (instant(zone, "2027-10-31T02:30", fold) for fold in (0, 1))
    assert second - first == HOUR
    assert within(cron, *midnights(zone, BACK[zone])) == [first]
    # Also for who begins to look between the two.
    assert next(cron.after(first)) == instant(zone, "2027-11-01T02:30")
    assert next(cron.after(second - 600)) == instant(zone, "2027-11-01T02:30")
    assert cron.latest(second - 600) == cron.latest(second + 600) == first


@pytest.mark.not_covered
@pytest.mark.parametrize(("zone", "day"), [(zone, day) for zone, day in CHANGES if zone != "Australia/Lord_Howe"])
@pytest.mark.parametrize(
    ("expression", "shows"),
    [
        ("30 * * * *", lambda clock: clock.minute == 30),
        ("*/10 2 * * *", lambda clock: clock.hour == 2 and clock.minute % 10 == 0),
        ("*/10 0,3 * * *", lambda clock: clock.hour in (0, 3) and clock.minute % 10 == 0),
        ("15 */2 * * *", lambda clock: clock.hour % 2 == 0 and clock.minute == 15),
    ],
)
def test_an_expression_with_a_star_comes_whenever_the_clock_on_the_wall_shows_it(zone, day, expression, shows) -> None:
    begin, end = midnights(zone, day)
    cron = Cron(expression, zone)
    assert within(cron, begin, end) == [time for time in range(begin, end, MINUTE) if shows(cron.at(time))]


def test_an_hourly_schedule_goes_by_real_hours() -> None:
    zone = "Europe/Berlin"
    for days, hours in ((FORWARD, 23), (BACK, 25)):
        begin, end = midnights(zone, days[zone])
        found = within(Cron("0 * * * *", zone), begin, end)
        assert len(found) == hours
        assert {after - before for before, after in pairwise(found)} == {HOUR}


def test_without_changes_of_the_clock_a_day_is_what_the_expression_says() -> None:
    begin, end = midnights("UTC", "2027-05-05")
    cron = Cron("0,30 6-8 * * *", "UTC")
    clocks = [cron.at(time).strftime("%H:%M") for time in within(cron, begin, end)]
    assert clocks == ["06:00", "06:30", "07:00", "07:30", "08:00", "08:30"]


@settings(max_examples=80, deadline=None)
@given(EXPRESSIONS, ZONES, MOMENTS)
def test_times_rise_and_the_latest_is_the_one_before_the_next(expression, zone, moment) -> None:
    cron = Cron(expression, zone)
    following = next_times(cron, moment, 4)
    assert all(before < after for before, after in pairwise([moment, *following]))
    latest = cron.latest(moment)
    assert latest is not None
    assert latest <= moment
    # Nothing lies between.
    assert next(cron.after(latest)) == following[0]
    assert cron.latest(following[1]) == following[1]


@settings(max_examples=40, deadline=None)
@given(EXPRESSIONS, ZONES, MOMENTS, st.sampled_from(["once", "all"]), st.integers(0, 900), PAUSES)
def test_however_steps_are_spread_no_time_fires_twice_and_all_fires_each(
    expression, zone, begin, missed, jitter_s, pauses
) -> None:
    timing = Timing(Cron(expression, zone), missed, jitter_s, "x")
    mark, now = begin, begin
    fired: list[int] = []
    for pause in pauses:
        now += pause * 37
        found = find_due(timing, mark, now)
        fired += found.fire
        assert found.handled_until >= mark
        # Looking again at the same moment finds nothing more, but what was left for the next look.
        assert len(found.fire) == MAX_FIRES_PER_STEP or not find_due(timing, found.handled_until, now).fire
        mark = found.handled_until
    assert fired == sorted(set(fired))
    nominal = [time for time in within(timing.cron, begin + 1, now + 1) if time <= mark]
    assert set(fired) <= set(nominal)
    if missed == "all":
        assert fired == nominal


@given(st.text(max_size=30), st.text(max_size=20))
@settings(max_examples=150, deadline=None)
def test_what_is_no_expression_or_zone_is_said_so(expression, zone) -> None:
    for given_expression, given_zone in ((expression, "UTC"), ("* * * * *", zone)):
        try:
            cron = Cron(given_expression, given_zone)
        except InvalidSchedule:
            continue
        assert next_times(cron, FIRST, 1)


@pytest.mark.parametrize(
    ("expression", "zone", "words"),
    [
        ("* * * *", "UTC", "must have 5 fields"),
        ("*/5 * * * * *", "UTC", "must have 5 fields"),
        ("60 * * * *", "UTC", "bad minute"),
        ("* 25 * * *", "UTC", "bad hour"),
        ("* * * * FUN", "UTC", "bad day-of-week"),
        ("0 0 31 2 *", "UTC", "bad day-of-month"),
        ("0 0 31 4 1#5", "UTC", None),
        ("@reboot", "UTC", "must have 5 fields"),
        ("* * * * *", "Europe/Berln", "there is no time zone 'Europe/Berln'"),
        ("* * * * *", "", "there is no time zone"),
        ("* * * * *", "Europe", "there is no time zone"),
        ("* * * * *", "../../etc/passwd", "there is no time zone"),
        ("1," * 200 + "1 * * * *", "UTC", "200 characters"),
    ],
)
def test_a_mistake_is_named(expression, zone, words) -> None:
    if words is None:
        assert Cron(expression, zone)
        return
    with pytest.raises(InvalidSchedule, match=words):
        Cron(expression, zone)


def hourly(missed: str, jitter_s: int = 0) -> Timing:
    return Timing(Cron("0 * * * *", "UTC"), missed, jitter_s)


#: A full hour.
NOON = instant("UTC", "2027-05-05T12:00")


@pytest.mark.parametrize(
    ("missed", "fire", "passed_over"),
    [
        ("skip", [NOON], (NOON - 3 * HOUR, NOON - HOUR)),
        ("once", [NOON], (NOON - 3 * HOUR, NOON - HOUR)),
        ("all", [NOON - n * HOUR for n in (3, 2, 1, 0)], None),
    ],
)
def test_times_that_were_missed(missed, fire, passed_over) -> None:
    found = find_due(hourly(missed), NOON - 3 * HOUR - 1, NOON + 5)
    assert found == Due(tuple(fire), passed_over, NOON)


@pytest.mark.parametrize(
    ("missed", "fire", "passed_over"),
    [
        ("skip", (), (NOON - HOUR, NOON)),
        ("once", (NOON,), (NOON - HOUR, NOON - HOUR)),
        ("all", (NOON - HOUR, NOON), None),
    ],
)
def test_times_that_were_all_missed(missed, fire, passed_over) -> None:
    assert find_due(hourly(missed), NOON - 2 * HOUR, NOON + 1800) == Due(fire, passed_over, NOON)


@pytest.mark.parametrize("missed", MISSED_POLICIES)
def test_nothing_is_due_before_its_time(missed) -> None:
    assert find_due(hourly(missed), NOON - HOUR, NOON - 1) == Due((), None, NOON - HOUR)


@pytest.mark.parametrize("missed", MISSED_POLICIES)
@pytest.mark.parametrize("late_s", [0, MISSED_AFTER_S])
def test_a_little_late_is_on_time(missed, late_s) -> None:
    assert find_due(hourly(missed), NOON - HOUR, NOON + late_s) == Due((NOON,), None, NOON)


def test_a_single_missed_time_is_passed_over_or_fired() -> None:
    late = NOON + MISSED_AFTER_S + 1
    assert find_due(hourly("skip"), NOON - HOUR, late) == Due((), (NOON, NOON), NOON)
    assert find_due(hourly("once"), NOON - HOUR, late) == Due((NOON,), None, NOON)


def test_years_that_were_missed_are_fired_a_few_at_a_time_and_passed_over_without_counting() -> None:
    minutely = Timing(Cron("* * * * *", "UTC"), "all")
    found = find_due(minutely, NOON - 1000 * DAY, NOON)
    assert len(found.fire) == MAX_FIRES_PER_STEP
    assert find_due(minutely, found.handled_until, NOON).fire[0] == found.fire[-1] + MINUTE
    once = find_due(Timing(Cron("* * * * *", "UTC"), "once"), NOON - 1000 * DAY, NOON)
    assert once == Due((NOON,), (NOON - 1000 * DAY + MINUTE, NOON - MINUTE), NOON)


def test_jitter_delays_a_time_and_is_the_same_at_every_step() -> None:
    timing = hourly("once", jitter_s=600)
    delay_s = timing.delay_s(NOON)
    assert 0 < delay_s <= 600
    assert find_due(timing, NOON - HOUR, NOON + delay_s - 1).fire == ()
    assert find_due(timing, NOON - HOUR, NOON + delay_s).fire == (NOON,)
    delays = {Timing(timing.cron, jitter_s=600, seed=seed).delay_s(NOON) for seed in "abcdefgh"}
    assert len(delays) > 4


def test_jitter_longer_than_the_pause_between_two_times_keeps_their_order() -> None:
    timing = Timing(Cron("* * * * *", "UTC"), "skip", jitter_s=300, seed="order")
    fired, mark = simulate(timing, NOON, NOON + 2 * HOUR, every_s=5)
    assert fired == list(range(NOON, mark + 1, MINUTE))
    assert mark >= NOON + 2 * HOUR - 310


def test_the_coming_times_are_those_of_the_zone() -> None:
    cron = Cron("0 1 * * MON-FRI", "Asia/Kolkata")
    shown = [cron.at(time).isoformat() for time in islice(cron.after(NOON), 2)]
    assert shown == ["2027-05-06T01:00:00+05:30", "2027-05-07T01:00:00+05:30"]
