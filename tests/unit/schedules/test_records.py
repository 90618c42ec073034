from __future__ import annotations

import pytest

from graycat.schedules import records
from graycat.schedules.due import Due
from graycat.schedules.errors import ScheduleExists, ScheduleNotFound, TooManySchedules
from graycat.schedules.records import ScheduleRecords
from tests.support.helpers import Valkey
from tests.unit.schedules.conftest import SPEC


def test_a_schedule_is_stored_shown_and_deleted(add, schedules: ScheduleRecords, broker: Valkey) -> None:
    schedule = add(timezone="Europe/Berlin")
    view = schedules.get("tests", "nightly")
    assert view["spec"] == SPEC
    assert (view["source"], view["paused"], view["last_batch"], view["waiting"], view["fires"]) == (
        "api",
        False,
        "",
        0,
        [],
    )
    assert view["next"].endswith(("T01:00:00+01:00", "T01:00:00+02:00"))
    assert schedules.load_definition("tests", "nightly") == schedule
    schedules.remove("tests", "nightly")
    assert schedules.list() == []
    assert list(broker.client.scan_iter("graycat:schedule*")) == []
    with pytest.raises(ScheduleNotFound):
        schedules.get("tests", "nightly")


def test_an_owner_sees_only_their_own(add, schedules: ScheduleRecords) -> None:
    add(name="b")
    add(name="a")
    add(name="a", owner="others/player")
    assert [view["name"] for view in schedules.list("tests")] == ["a", "b"]
    assert [view["name"] for view in schedules.list("others/player")] == ["a"]
    assert len(schedules.list()) == 3
    with pytest.raises(ScheduleNotFound):
        schedules.get("others", "a")


def test_the_same_schedule_changes_nothing_and_another_needs_replace(add, schedules: ScheduleRecords) -> None:
    schedule = add()
    assert schedules.put(schedule) == "same"
    with pytest.raises(ScheduleExists, match="another schedule 'nightly'"):
        add(jitter_s=5)
    changed = schedules.load_definition("tests", "nightly").from_json(schedule.to_json().replace('"skip"', '"queue"'))
    assert schedules.put(changed, replace=True) == "changed"
    assert schedules.get("tests", "nightly")["overlap"] == "queue"


def test_a_change_of_the_times_begins_anew_and_another_change_does_not(add, schedules: ScheduleRecords) -> None:
    schedule = add(mark=5)
    state = schedules.load_states()[0]
    assert schedules.advance(state, Due((60,), None, 60))
    other = schedule.from_json(schedule.to_json().replace('"once"', '"all"'))
    schedules.put(other, replace=True)
    assert (schedules.load_states()[0].handled_until, schedules.load_states()[0].waiting) == (60, [60])
    times = schedule.from_json(schedule.to_json().replace("0 1 * * *", "0 2 * * *"))
    schedules.put(times, replace=True)
    assert schedules.load_states()[0].waiting == []
    assert schedules.load_states()[0].handled_until > 60


def test_what_the_file_defines_is_changed_and_removed_there(add, schedules: ScheduleRecords) -> None:
    schedule = add()
    with pytest.raises(ScheduleExists, match="another schedule"):
        schedules.put(schedule, replace=True, source=records.SOURCE_FILE)
    schedules.remove("tests", "nightly")
    schedules.put(schedule, source=records.SOURCE_FILE)
    with pytest.raises(ScheduleExists, match="in the server's schedules file"):
        schedules.put(schedule, replace=True)
    with pytest.raises(ScheduleExists, match="remove it there"):
        schedules.remove("tests", "nightly")
    assert schedules.pause("tests", "nightly")["paused"]


def test_one_owner_cannot_have_any_number(add, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_OWNED", 2)
    add(name="a", owner="others")
    add(name="a")
    add(name="b")
    with pytest.raises(TooManySchedules, match="2 schedules"):
        add(name="c")


def test_a_pause_leaves_out_what_comes_meanwhile(add, schedules: ScheduleRecords) -> None:
    add(mark=5)
    view = schedules.pause("tests", "nightly")
    assert view["paused"]
    assert view["next"] is None
    assert schedules.load_states()[0].handled_until == 5
    assert not schedules.resume("tests", "nightly")["paused"]
    mark = schedules.load_states()[0].handled_until
    assert mark > 5
    # Of one that was not paused nothing is left out.
    add(name="other", mark=5)
    schedules.resume("tests", "other")
    assert [state.handled_until for state in schedules.load_states() if state.schedule.name == "other"] == [5]


def test_a_step_counts_once_and_a_waiting_time_is_settled_once(add, schedules: ScheduleRecords) -> None:
    add(mark=5)
    one, two = schedules.load_states()[0], schedules.load_states()[0]
    assert schedules.advance(one, Due((60, 120), (10, 20), 120))
    assert not schedules.advance(two, Due((60, 120), None, 120))
    state = schedules.load_states()[0]
    assert (state.handled_until, state.waiting) == (120, [60, 120])
    assert schedules.settle(state, 60, records.FIRED, "b1")
    assert not schedules.settle(state, 60, records.SKIPPED, reason="late")
    state = schedules.load_states()[0]
    assert (state.last_batch_id, state.waiting) == ("b1", [120])
    fired, missed = schedules.get("tests", "nightly")["fires"]
    assert (fired["time"], fired["outcome"], fired["batch"]) == (60, "fired", "b1")
    assert (missed["time"], missed["until"], missed["outcome"]) == (10, 20, "missed")


def test_a_schedule_that_has_gone_is_not_brought_back(add, schedules: ScheduleRecords, broker: Valkey) -> None:
    add(mark=5)
    state = schedules.load_states()[0]
    schedules.advance(state, Due((60,), None, 60))
    schedules.remove("tests", "nightly")
    assert not schedules.advance(state, Due((120,), None, 120))
    assert not schedules.settle(state, 60, records.FIRED, "b1")
    assert list(broker.client.scan_iter("graycat:schedule*")) == []


def test_only_the_last_outcomes_are_stored(add, schedules: ScheduleRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_OUTCOMES", 3)
    add(mark=0)
    state = schedules.load_states()[0]
    schedules.advance(state, Due(tuple(range(1, 8)), None, 8))
    for time in range(1, 8):
        schedules.settle(state, time, records.SKIPPED)
    assert [fire["time"] for fire in schedules.list_outcomes("tests", "nightly")] == [7, 6, 5]


def test_a_run_by_hand_is_one_batch_however_often_it_is_asked_for(add, schedules, batches) -> None:
    add()
    batch_id = schedules.run_now("tests", "nightly", "now-1")
    assert schedules.run_now("tests", "nightly", "now-1") == batch_id
    assert schedules.run_now("tests", "nightly", "now-2") != batch_id
    assert batches.get(batch_id, "tests")["schedule"] == "nightly"
    assert schedules.get("tests", "nightly")["last_batch"]


def test_coming_times_are_those_of_the_zone_and_tell_the_jitter(add, schedules: ScheduleRecords) -> None:
    add(timezone="Asia/Kolkata", jitter_s=3000)
    rows = schedules.list_next("tests", "nightly", 3)
    assert len(rows) == 3
    for row in rows:
        assert row["time"].endswith("T01:00:00+05:30")
        assert row["time"] <= row["starts"] < row["time"].replace("T01:", "T02:")
