"""Schedules that are damaged in the broker: the others are listed, and fire."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from graycat.batches.records import BatchRecords
from graycat.errors import SettingsError
from graycat.loops.unexpected import UNEXPECTED
from graycat.schedules import file
from graycat.schedules.definition import Schedule
from graycat.schedules.records import SOURCE_FILE, ScheduleRecords
from graycat.schedules.runner import ScheduleRunner
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey, changed
from tests.unit.schedules.conftest import SPEC

NOON = int(datetime(2027, 5, 5, 12, tzinfo=UTC).timestamp())
BAD = "graycat:schedule:tests:bad"

Damage = Callable[[BrokerClient], object]


def set_field(name: str, value: str | bytes) -> Damage:
    return lambda client: client.hset(BAD, name, value)


def change_definition(**changes: Any) -> Damage:
    def damage(client: BrokerClient) -> None:
        definition = json.loads(client.hget(BAD, "definition") or b"")
        client.hset(BAD, "definition", json.dumps(definition | changes))

    return damage


def replace_key(key: str) -> Damage:
    """Return the damage that a key has another type."""

    def damage(client: BrokerClient) -> None:
        client.delete(key)
        client.set(key, "rubbish")

    return damage


DAMAGES: dict[str, Damage] = {
    "no hash": replace_key(BAD),
    "waiting times of another type": replace_key(f"{BAD}:waiting"),
    "waiting times that are none": lambda client: client.zadd(f"{BAD}:waiting", {"noon": 1}),
    "half JSON": set_field("definition", '{"name": "bad"'),
    "no object": set_field("definition", "[]"),
    "missing fields": set_field("definition", '{"name": "bad", "spec": {}}'),
    "a mark that is none": set_field("mark", "noon"),
    "no text": set_field("batch", b"\xff"),
    "a spec that is none": change_definition(spec=7),
    "another's name": change_definition(name="good"),
}
#: They are shown all the same, but for their times.
DAMAGED_TIMES: dict[str, Damage] = {
    "a cron that is none": change_definition(cron="at noon"),
    "a cron of another type": change_definition(cron=7),
    "a time zone that is none": change_definition(timezone="Mars"),
    "a jitter that is none": change_definition(jitter_s="long"),
}


def parameters(damages: dict[str, Damage]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("damage", [pytest.param(damage, id=name) for name, damage in damages.items()])


@parameters(DAMAGES | DAMAGED_TIMES)
def test_it_keeps_no_other_from_firing(
    add: Any, broker: Valkey, runner: ScheduleRunner, batches: BatchRecords, damage: Damage
) -> None:
    for name in ("a", "bad", "good"):
        add(name, cron="0 * * * *", mark=NOON - 1)
    damage(broker.client)
    before = UNEXPECTED.labels("schedules")._value.get()
    assert runner.step(NOON) == {"fired": 2}
    assert UNEXPECTED.labels("schedules")._value.get() > before
    assert sorted(row["schedule"] for row in batches.list("tests")) == ["a", "good"]
    assert runner.step(NOON + 3600) in ({"fired": 2}, {"skipped": 2})


@parameters(DAMAGES)
def test_it_keeps_no_other_from_being_listed(
    add: Any, broker: Valkey, schedules: ScheduleRecords, damage: Damage
) -> None:
    for name in ("a", "bad", "good"):
        add(name)
    damage(broker.client)
    assert [row["name"] for row in schedules.list("tests")] == ["a", "good"]
    assert [row["name"] for row in schedules.list()] == ["a", "good"]
    assert schedules.get("tests", "good")["cron"] == "0 1 * * *"


def test_ids_and_outcomes_that_are_none_are_left_out(add: Any, broker: Valkey, schedules: ScheduleRecords) -> None:
    add("good")
    broker.client.sadd("graycat:schedules", b"\xff", "", "no owner", "tests:gone")
    broker.client.lpush("graycat:schedule:tests:good:fires", '{"time": 1}', "{half", "7")
    assert [row["name"] for row in schedules.list()] == ["good"]
    assert schedules.get("tests", "good")["fires"] == [{"time": 1}]


def test_fields_of_a_newer_version_are_left_out(
    add: Any, broker: Valkey, runner: ScheduleRunner, schedules: ScheduleRecords
) -> None:
    add("bad", cron="0 * * * *", mark=NOON - 1)
    change_definition(mood="good")(broker.client)
    broker.client.hset(BAD, "mood", "good")
    assert runner.step(NOON) == {"fired": 1}
    assert "mood" not in schedules.get("tests", "bad")


def test_a_submission_that_raises_keeps_no_other_from_firing(
    add: Any, runner: ScheduleRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "bad", "good"):
        add(name, cron="0 * * * *", mark=NOON - 1)
    document = Schedule.document
    monkeypatch.setattr(Schedule, "document", lambda self: 1 / 0 if self.name == "bad" else document(self))
    assert runner.step(NOON) == {"fired": 2}
    monkeypatch.undo()
    # It was not lost.
    assert runner.step(NOON + 1) == {"fired": 1}


def test_a_damaged_last_batch_does_not_hold_its_schedule(
    add: Any, broker: Valkey, runner: ScheduleRunner, batches: BatchRecords
) -> None:
    add("good", cron="0 * * * *", mark=NOON - 1)
    assert runner.step(NOON) == {"fired": 1}
    (row,) = batches.list("tests")
    broker.client.hset(f"graycat:batch:{row['id']}", "terms", "{half")
    assert runner.step(NOON + 3600) == {"fired": 1}


@parameters(DAMAGES | DAMAGED_TIMES)
def test_the_operator_s_file_is_put_in_force_beside_it(
    add: Any, broker: Valkey, schedules: ScheduleRecords, damage: Damage
) -> None:
    add("bad")
    broker.client.hset(BAD, "source", SOURCE_FILE)
    damage(broker.client)
    wanted = [_new(broker, name) for name in ("bad", "good")]
    file.sync(schedules, wanted)
    names = [row["name"] for row in schedules.list()]
    assert "good" in names
    file.sync(schedules, [])
    assert "good" not in [row["name"] for row in schedules.list()]


def _new(broker: Valkey, name: str) -> Schedule:
    return Schedule.read({"name": name, "cron": "0 2 * * *", "spec": SPEC}, "tests", broker.settings)


@pytest.mark.parametrize(("text", "words"), [(r"half \ud83d", "half a character"), (r"a\u0000b", "the character U")])
def test_half_a_character_and_nul_in_the_operator_s_file_are_errors(
    broker: Valkey, tmp_path: Any, text: str, words: str
) -> None:
    path = tmp_path / "s.toml"
    path.write_text('[[schedule]]\nname = "x"\ncron = "@daily"\nspec_file = "x.json"\n')
    (tmp_path / "x.json").write_text(f'{{"name": "x", "items": ["{text}"]}}')
    with pytest.raises(SettingsError, match=rf"spec\.items\[0\]: holds {words}"):
        file.load(changed(broker.settings, schedules_file=path))
