from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import redis

from graycat.batches.plan import expand
from graycat.batches.records import BatchRecords
from graycat.batches.spec import parse
from graycat.broker import keys
from graycat.broker.client import now_ms
from graycat.engines.base import EngineInfo
from graycat.fleet.reports import WorkerStatus
from graycat.fleet.workers import WorkerRegistry
from graycat.schedules.records import ScheduleRecords
from graycat.schedules.runner import ScheduleRunner
from graycat.worker.broker_acl import setuser, worker_rules
from tests.support.helpers import Valkey, changed

MINUTE, HOUR = 60, 3600
#: A full hour.
NOON = int(datetime(2027, 5, 5, 12, tzinfo=UTC).timestamp())


def end(broker: Valkey, batch_id: str) -> None:
    """Have a batch be over, as the runner does at its end."""
    broker.client.hset(f"graycat:batch:{batch_id}", "state", "succeeded")
    broker.client.zrem("graycat:batches:live", batch_id)


def keys_of(batches: BatchRecords) -> list[str]:
    return sorted(view["key"] for view in batches.list("tests", count=5000))


def outcomes(schedules: ScheduleRecords, name: str = "nightly") -> list[tuple[str, int]]:
    """Return how the times of a schedule went, oldest first."""
    return [(fire["outcome"], fire["time"]) for fire in reversed(schedules.list_outcomes("tests", name))]


@pytest.mark.parametrize("owner", ["game", "game/42"])
def test_a_schedule_of_a_token_that_was_revoked_submits_nothing(
    add, broker: Valkey, runner: ScheduleRunner, batches: BatchRecords, schedules: ScheduleRecords, owner: str
) -> None:
    add(cron="0 * * * *", mark=NOON - 5, owner=owner)
    ends: dict[str, float] = {"game": 1.0}
    broker.client.zadd(keys.TOKEN_ENDS, ends)
    assert runner.step(NOON) == {"skipped": 1}
    assert batches.list(owner) == []
    assert "revoked" in schedules.list_outcomes(owner, "nightly")[0]["reason"]
    # It expires later, or is minted again.
    ends["game"] = 9e9
    broker.client.zadd(keys.TOKEN_ENDS, ends)
    assert runner.step(NOON + HOUR) == {"fired": 1}


def test_a_configured_token_of_that_name_keeps_its_schedules(add, broker: Valkey) -> None:
    add(cron="0 * * * *", mark=NOON - 5)
    ends: dict[str, float] = {"tests": 1.0}
    broker.client.zadd(keys.TOKEN_ENDS, ends)
    assert ScheduleRunner(broker.client, broker.settings).step(NOON) == {"fired": 1}


def test_a_nominal_time_becomes_a_batch(
    add, runner: ScheduleRunner, batches: BatchRecords, schedules: ScheduleRecords
) -> None:
    add(cron="0 * * * *", mark=NOON - 5, max_gpus=2, window="01:00-06:00", timezone="Asia/Kolkata", name="hourly")
    # At the half hours of Kolkata.
    assert runner.step(NOON) == {}
    assert runner.step(NOON + 1800) == {"fired": 1}
    assert runner.step(NOON + 1800) == {}
    (view,) = batches.list("tests")
    assert view["key"] == "schedule/hourly/20270505T123000Z"
    assert (view["schedule"], view["name"], view["owner"]) == ("hourly", "portraits", "tests")
    assert (view["max_gpus"], view["window"], view["timezone"]) == (2, "01:00-06:00", "Asia/Kolkata")
    assert schedules.get("tests", "hourly")["last_batch"] == view["id"]


@pytest.mark.not_covered
@pytest.mark.parametrize("zone_and_day", [("Europe/Berlin", "2027-03-28"), ("Europe/Berlin", "2027-10-31")])
def test_a_night_in_which_clocks_change_with_two_that_fire_gives_a_batch_a_minute(
    add, broker: Valkey, batches: BatchRecords, schedules: ScheduleRecords, zone_and_day
) -> None:
    zone, day = zone_and_day
    begin = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    first, behind = (int(at.timestamp()) for at in (begin, begin + timedelta(days=1)))
    assert behind - first in (23 * HOUR, 25 * HOUR)
    # They change at two or three o'clock.
    behind = first + 6 * HOUR
    add(cron="* * * * *", timezone=zone, overlap="allow", mark=first - 1)
    settings = changed(broker.settings, batch_max_live=10_000)
    together = threading.Barrier(2)

    def run() -> None:
        runner = ScheduleRunner(broker.client, settings)
        for now in range(first, behind, MINUTE // 2):
            together.wait()
            runner.step(now)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    nominal = [
        f"schedule/nightly/{datetime.fromtimestamp(at, UTC):%Y%m%dT%H%M%SZ}" for at in range(first, behind, MINUTE)
    ]
    assert keys_of(batches) == nominal
    assert schedules.load_states()[0].waiting == []


def test_a_kill_between_any_two_writes_loses_and_doubles_nothing(
    add, broker: Valkey, runner: ScheduleRunner, batches: BatchRecords, schedules: ScheduleRecords, monkeypatch
) -> None:
    add(cron="0 * * * *", mark=NOON - 1)

    class Killed(BaseException):
        """Nothing catches it, as nothing catches SIGKILL."""

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    places = [(BatchRecords, "submit"), (ScheduleRecords, "settle")]
    for hour, (owner, name) in enumerate(places):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, die)
            with pytest.raises(Killed):
                runner.step(NOON + hour * HOUR)
        end_all(broker, batches)
        assert runner.step(NOON + hour * HOUR + 5) == {"fired": 1}
        end_all(broker, batches)
    assert keys_of(batches) == ["schedule/nightly/20270505T120000Z", "schedule/nightly/20270505T130000Z"]
    assert outcomes(schedules) == [("fired", NOON), ("fired", NOON + HOUR)]


def end_all(broker: Valkey, batches: BatchRecords) -> None:
    for view in batches.list("tests"):
        end(broker, view["id"])


def test_one_runner_at_a_time_fires_and_a_dead_one_blocks_no_other(add, broker: Valkey, runner: ScheduleRunner) -> None:
    add(cron="0 * * * *", mark=NOON - 1)
    broker.client.set("graycat:schedules:firing", "somebody", px=60_000)
    assert runner.step(NOON) == {}
    broker.client.delete("graycat:schedules:firing")
    assert runner.step(NOON) == {"fired": 1}
    assert not broker.client.exists("graycat:schedules:firing")
    assert int(broker.client.get("graycat:schedules:fired") or 0) > 0


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        ("skip", [("missed", NOON)]),
        ("once", [("missed", NOON), ("fired", NOON + 2 * HOUR)]),
        ("all", [("fired", NOON), ("fired", NOON + HOUR), ("fired", NOON + 2 * HOUR)]),
    ],
)
def test_what_was_missed_goes_as_the_schedule_says(add, runner, schedules, missed, expected) -> None:
    add(cron="0 * * * *", mark=NOON - 1, missed=missed, overlap="allow")
    runner.step(NOON + 2 * HOUR + 1800)
    assert outcomes(schedules) == expected
    assert runner.step(NOON + 2 * HOUR + 1800) == {}


def test_a_batch_that_is_not_over_has_the_next_time_skipped(add, broker, runner, batches, schedules) -> None:
    add(cron="0 * * * *", mark=NOON - 1, overlap="skip")
    runner.step(NOON)
    assert runner.step(NOON + HOUR) == {"skipped": 1}
    end_all(broker, batches)
    assert runner.step(NOON + 2 * HOUR) == {"fired": 1}
    assert outcomes(schedules) == [("fired", NOON), ("skipped", NOON + HOUR), ("fired", NOON + 2 * HOUR)]


def test_a_time_may_wait_for_the_batch_before_it(add, broker, runner, batches, schedules) -> None:
    add(cron="0 * * * *", mark=NOON - 1, overlap="queue")
    for hour in range(3):
        runner.step(NOON + hour * HOUR)
    assert schedules.get("tests", "nightly")["waiting"] == 2
    for done in range(1, 3):
        end(broker, schedules.get("tests", "nightly")["last_batch"])
        assert runner.step(NOON + 3 * HOUR - 1) == {"fired": 1}
        assert runner.step(NOON + 3 * HOUR - 1) == {}
        assert schedules.get("tests", "nightly")["waiting"] == 2 - done
    assert outcomes(schedules) == [("fired", NOON + hour * HOUR) for hour in range(3)]


def test_no_more_times_wait_than_may(add, runner, schedules, monkeypatch) -> None:
    monkeypatch.setattr("graycat.schedules.runner.MAX_WAITING", 2)
    add(cron="0 * * * *", mark=NOON - 1, overlap="queue", missed="all")
    runner.step(NOON + 5 * HOUR)
    assert schedules.get("tests", "nightly")["waiting"] == 2
    assert outcomes(schedules) == [("fired", NOON), *(("skipped", NOON + hour * HOUR) for hour in (1, 2, 3))]


def test_the_batch_before_may_be_cancelled(add, runner, batches, schedules) -> None:
    add(cron="0 * * * *", mark=NOON - 1, overlap="cancel-previous")
    runner.step(NOON)
    first = schedules.get("tests", "nightly")["last_batch"]
    runner.step(NOON + HOUR)
    second = schedules.get("tests", "nightly")["last_batch"]
    assert first != second
    assert [batches.get(name)["state"] for name in (first, second)] == ["cancelled", "queued"]


@pytest.mark.parametrize(
    ("seeds", "is_equal"),
    [("random", False), ({"policy": "per_item", "seed": 7}, True), ({"policy": "fixed", "seed": 7}, True)],
    ids=["random", "per item", "fixed"],
)
def test_each_round_draws_its_own_seeds_and_has_the_same_styles(
    add, broker: Valkey, runner, batches, schedules, seeds: Any, is_equal: bool
) -> None:
    document = {"name": "x", "items": ["a", "b"], "seeds": seeds, "defaults": {"styles": ["ink"]}}
    add(cron="0 * * * *", mark=NOON - 1, overlap="allow", spec=document)
    rounds = []
    for hour in range(2):
        runner.step(NOON + hour * HOUR)
        batch_id = schedules.get("tests", "nightly")["last_batch"]
        record = broker.client.hgetall(keys.batch_key(batch_id))
        stored = json.loads(record[b"document"])
        items = expand(parse(stored, broker.settings), batch_id, record[b"entropy"].decode())
        assert [item.request["styles"] for item in items] == [["ink"], ["ink"]]
        rounds.append([item.seed for item in items])
    assert (rounds[0] == rounds[1]) is is_equal


def test_a_batch_that_was_forgotten_is_over(add, broker, runner, schedules) -> None:
    add(cron="0 * * * *", mark=NOON - 1)
    runner.step(NOON)
    broker.client.delete(f"graycat:batch:{schedules.get('tests', 'nightly')['last_batch']}")
    assert runner.step(NOON + HOUR) == {"fired": 1}


def test_a_paused_schedule_does_not_fire(add, runner, schedules) -> None:
    add(cron="0 * * * *", mark=NOON - 1)
    schedules.pause("tests", "nightly")
    assert runner.step(NOON) == {}


def test_an_owner_with_too_many_batches_waits_for_one_to_end(add, broker, batches, schedules) -> None:
    runner = ScheduleRunner(broker.client, changed(broker.settings, batch_max_live=1))
    add(cron="0 * * * *", mark=NOON - 1, overlap="allow", missed="all")
    assert runner.step(NOON + HOUR) == {"fired": 1}
    assert runner.step(NOON + HOUR) == {}
    end_all(broker, batches)
    assert runner.step(NOON + HOUR) == {"fired": 1}
    assert outcomes(schedules) == [("fired", NOON), ("fired", NOON + HOUR)]


def test_an_owner_without_room_for_a_batch_waits_for_it(add, broker, schedules) -> None:
    add(cron="0 * * * *", mark=NOON - 1, overlap="allow")
    assert ScheduleRunner(broker.client, changed(broker.settings, stored_bytes_per_token=1)).step(NOON) == {}
    assert ScheduleRunner(broker.client, broker.settings).step(NOON) == {"fired": 1}
    assert outcomes(schedules) == [("fired", NOON)]


def test_a_batch_that_is_no_longer_valid_is_refused_with_the_reason(add, broker, schedules) -> None:
    runner = ScheduleRunner(broker.client, changed(broker.settings, max_side=32))
    add(cron="0 * * * *", mark=NOON - 1)
    add(name="other", cron="0 * * * *", mark=NOON - 1)
    assert runner.step(NOON) == {"refused": 2}
    (fire,) = schedules.get("tests", "nightly")["fires"]
    assert "32" in fire["reason"]


def test_a_batch_that_was_submitted_before_its_schedule_was_changed_counts(
    add, runner, batches, schedules, monkeypatch
) -> None:
    schedule = add(cron="0 * * * *", mark=NOON - 1, overlap="allow")
    batch_id, _ = batches.submit(schedule.document() | {"count": 2}, "tests", schedule.batch_key(NOON), "nightly")
    assert runner.step(NOON) == {"fired": 1}
    assert schedules.get("tests", "nightly")["last_batch"] == batch_id


def test_without_a_time_given_it_is_the_broker_s(add, broker, runner, schedules) -> None:
    add(cron="* * * * *", mark=now_ms(schedules._client) // 1000 - 3 * MINUTE, missed="all", overlap="allow")
    assert runner.step()["fired"] in (3, 4)


def test_the_broker_s_user_of_a_control_worker_may_do_it_all(add, broker, batches, schedules) -> None:
    add(cron="0 * * * *", mark=NOON - 1, overlap="cancel-previous")
    password = "a-password-of-the-tests"
    broker.client.execute_command(*setuser("box", password, worker_rules("box", ["control"])).split())
    try:
        socket = str(broker.settings.broker_socket)
        with redis.Redis(unix_socket_path=socket, username="box", password=password) as client:
            runner = ScheduleRunner(client, broker.settings)
            assert runner.step(NOON) == {"fired": 1}
            assert runner.step(NOON + HOUR) == {"fired": 1}
            client.connection_pool.disconnect()
    finally:
        broker.client.acl_deluser("box")
    assert sorted(view["state"] for view in batches.list("tests")) == ["cancelled", "queued"]


def report_samplers(broker: Valkey, *names: str) -> None:
    """Report an image engine with these samplers and one checkpoint."""
    lists = {"samplers": [{"name": name} for name in names], "sd-models": [{"title": "one"}]}
    catalog = {path: json.dumps(entries).encode() for path, entries in lists.items()}
    version = EngineInfo(1, catalog=catalog).version
    queues = ("sd", "sd.batch")
    status = WorkerStatus("sd@box", queues, "webui", "ready", True, 1, 0, "", catalog=version)
    WorkerRegistry(broker.client).report(status, catalog)


def test_a_value_that_has_vanished_is_told_and_nothing_else_is_made_of_it(
    add, broker: Valkey, runner: ScheduleRunner, batches: BatchRecords, schedules: ScheduleRecords
) -> None:
    spec = {"name": "x", "items": [{"prompt": "a", "sampler_name": "Euler"}]}
    add(cron="0 * * * *", mark=NOON - 5, spec=spec, overlap="cancel-previous")
    report_samplers(broker, "Euler")
    assert runner.step(NOON) == {"fired": 1}
    report_samplers(broker, "DDIM")
    assert runner.step(NOON + HOUR) == {"refused": 1}
    reason = schedules.list_outcomes("tests", "nightly")[0]["reason"]
    assert reason == "items[0].sampler_name: no engine has the sampler 'Euler'"
    # The batch before it goes on.
    assert [view["state"] for view in batches.list("tests")] == ["queued"]


def test_a_checkpoint_that_is_away_is_waited_for_and_told(
    add, broker: Valkey, runner: ScheduleRunner, schedules: ScheduleRecords
) -> None:
    override = {"override_settings": {"sd_model_checkpoint": "two"}}
    add(cron="0 * * * *", mark=NOON - 5, spec={"name": "x", "items": ["a"], "defaults": override})
    report_samplers(broker, "Euler")
    assert runner.step(NOON) == {"fired": 1}
    row = schedules.list_outcomes("tests", "nightly")[0]
    assert ("batch" in row, "no engine has the checkpoint 'two'" in row["reason"]) == (True, True)
