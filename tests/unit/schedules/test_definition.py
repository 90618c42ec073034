from __future__ import annotations

from typing import Any

import pytest

from graycat.batches.errors import InvalidBatch
from graycat.schedules.definition import Schedule
from graycat.schedules.errors import InvalidSchedule
from graycat.settings import Settings

SPEC = {"defaults": {"width": 64, "height": 64}, "items": [{"prompt": "a tavern"}]}
GOOD = {"name": "nightly", "cron": "0 1 * * *", "spec": SPEC}


def read(**changes: Any) -> Schedule:
    body = {name: value for name, value in (GOOD | changes).items() if value is not ...}
    return Schedule.read(body, "tests", Settings())


def test_what_is_not_said_is_as_usual() -> None:
    schedule = read()
    assert (schedule.timezone, schedule.missed, schedule.overlap, schedule.jitter_s) == ("UTC", "once", "skip", 0)
    assert schedule.document() == {"name": "nightly"} | SPEC


def test_hours_and_gpus_go_with_the_batch() -> None:
    schedule = read(
        spec=SPEC | {"name": "portraits", "window": "10:00-11:00", "timezone": "UTC", "max_gpus": 9},
        window="01:00-06:00", timezone="Europe/Berlin", max_gpus=2,
    )  # fmt: skip
    document = schedule.document()
    assert (document["window"], document["timezone"], document["max_gpus"]) == ("01:00-06:00", "Europe/Berlin", 2)
    assert document["name"] == "portraits"


def test_the_time_zone_of_a_batch_s_own_hours_stays() -> None:
    document = read(
        spec=SPEC | {"window": "10:00-11:00", "timezone": "Asia/Tokyo"}, timezone="Europe/Berlin"
    ).document()
    assert document["timezone"] == "Asia/Tokyo"


def test_a_record_says_all_of_it_again() -> None:
    schedule = read(jitter_s=30, missed="all", overlap="queue", max_gpus=1, window="01:00-02:00")
    assert Schedule.from_json(schedule.to_json()) == schedule


def test_a_nominal_time_has_a_key_of_its_own() -> None:
    assert read().batch_key(1_800_000_000) == "schedule/nightly/20270115T080000Z"
    assert len({read().batch_key(time) for time in range(1_800_000_000, 1_800_000_000 + 3600, 60)}) == 60


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ...}, "'name' is required"),
        ({"name": "a:b"}, "'name' is required"),
        ({"name": "../x"}, "'name' is required"),
        ({"name": 7}, "'name' is required"),
        ({"cron": ...}, "'cron' is required"),
        ({"cron": 5}, "'cron' must be a text"),
        ({"cron": "61 * * * *"}, "bad minute"),
        ({"timezone": "Berlin"}, "there is no time zone 'Berlin'"),
        ({"timezone": ["UTC"]}, "'timezone' must be a text"),
        ({"spec": ...}, "'spec' is required"),
        ({"spec": [1]}, "'spec' is required"),
        ({"missed": "never"}, "'missed' must be one of skip, once, all"),
        ({"missed": ["skip"]}, "'missed' must be one of"),
        ({"overlap": "wait"}, "'overlap' must be one of skip, queue, cancel-previous, allow"),
        ({"jitter_s": -1}, "'jitter_s' must be a whole number"),
        ({"jitter_s": True}, "'jitter_s' must be a whole number"),
        ({"jitter_s": 10**6}, "'jitter_s' must be a whole number, 0 to 86400"),
        ({"max_gpus": "two"}, "'max_gpus' must be a whole number"),
        ({"when": "soon"}, "has no field 'when'"),
        ({"timezon": "UTC"}, "did you mean 'timezone'"),
        ({"deadline": "6h"}, "did you mean 'spec.deadline'"),
        ({"spec": {"items": ["x" * 1000] * 1000}}, "'spec' is too long"),
    ],
)
def test_a_mistake_is_named(changes, words) -> None:
    with pytest.raises(InvalidSchedule, match=words):
        read(**changes)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"spec": {}}, "spec"),
        ({"spec": SPEC | {"surprise": 1}}, "spec.surprise"),
        ({"spec": SPEC | {"defaults": {"steps": 10**6}}}, "spec.defaults"),
        ({"window": "25:00-26:00"}, "window"),
        ({"max_gpus": 0}, "max_gpus"),
    ],
)
def test_the_batch_is_checked_with_the_schedule(changes, path) -> None:
    with pytest.raises(InvalidBatch) as caught:
        read(**changes)
    assert [found for found, _ in caught.value.problems if found.startswith(path)], caught.value.problems
