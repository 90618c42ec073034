from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from graycat.broker import keys
from graycat.broker.client import connect
from graycat.celeryapp import GraycatCelery, create_celery
from graycat.errors import BrokerUnavailable
from graycat.queue.messages import MessageFactory
from graycat.queue.records import TaskRecords
from graycat.queue.redelivery import unacked_keys
from graycat.settings import Settings
from graycat.worker.sweeper import LOCKS, Sweeper
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey, accepted, changed, claimed, eventually, kinds, new_task
from tests.support.workers import celery_app

#: So short that everything is old enough to be looked at after a moment.
LEASE_S = 0.02


@pytest.fixture
def app(broker: Valkey) -> GraycatCelery:
    return celery_app(broker.settings.home)


@pytest.fixture
def sweeper(broker: Valkey, app: GraycatCelery) -> Sweeper:
    return Sweeper(broker.client, changed(broker.settings, lease_s=LEASE_S), app)


@pytest.fixture
def hasty(broker: Valkey) -> TaskRecords:
    """Return records whose leases last only a moment."""
    return TaskRecords(broker.client, changed(broker.settings, lease_s=LEASE_S))


def enqueued(records: TaskRecords, app: GraycatCelery, **changes: Any) -> str:
    """Create a task with its real message; return its id."""
    task = new_task(**changes)
    records.create(task, MessageFactory(app).make(task.kind, task.id))
    return task.id


def ids_in(client: BrokerClient, queue: str) -> list[str]:
    return [json.loads(message)["headers"]["id"] for message in client.lrange(queue, 0, -1)]


def sweep(sweeper: Sweeper, client: BrokerClient) -> int:
    """Sweep when everything is old enough and nobody else does; return how many were enqueued."""
    now = time.time()
    eventually(lambda: time.time() > now + 2 * LEASE_S)
    client.delete(*LOCKS.values())
    return sweeper.sweep()


def test_a_queued_task_whose_message_is_lost_is_enqueued_again(sweeper, records, client, app) -> None:
    task_id = enqueued(records, app, kind="llm.tokenize", queue="llm.quick")
    client.delete("llm.quick")
    assert sweep(sweeper, client) == 1
    assert ids_in(client, "llm.quick") == [task_id]
    assert json.loads(client.lindex("llm.quick", 0))["headers"]["task"] == "llm.tokenize"
    assert claimed(records, task_id).number == 1


def test_a_lost_task_of_a_kind_that_is_not_known_is_enqueued_again(sweeper, records, client) -> None:
    task_id = accepted(records, kind="llm.ponder")
    client.delete("llm")
    assert sweep(sweeper, client) == 1
    headers = json.loads(client.lindex("llm", 0))["headers"]
    assert (headers["task"], headers["id"]) == ("llm.ponder", task_id)


@pytest.mark.parametrize(
    "rubbish",
    [
        {"state": "queued", "queue": "llm", "kind": "llm.completion", "enqueued_ms": "soon"},
        {"state": "queued", "queue": "llm", "kind": "llm.completion", "enqueued_ms": "1", "lease_ms": "x"},
        {"state": "queued", "queue": "llm", "kind": "", "enqueued_ms": "1"},
        {"queue": "llm"},
        {"state": "queued", "queue": "llm:no-list", "kind": "llm.completion", "enqueued_ms": "1"},
        {"state": b"\xff", "queue": b"\xff", "kind": b"\xff", "enqueued_ms": b"\xff"},
    ],
    ids=str,
)
def test_a_record_that_makes_no_sense_keeps_no_other_from_being_found(sweeper, records, client, app, rubbish) -> None:
    client.zadd(keys.live_key("llm"), {"a" * 32: 1, b"\xff": 2})
    client.hset(keys.record_key("a" * 32), mapping=rubbish)
    client.set("llm:no-list", "x")
    task_id = enqueued(records, app, kind="llm.tokenize", queue="llm.quick")
    client.delete("llm.quick")
    sweep(sweeper, client)
    assert ids_in(client, "llm.quick") == [task_id]
    assert client.zscore(keys.live_key("llm"), b"\xff") is None
    assert client.zscore(keys.live_key("llm"), "a" * 32) is None


def test_what_was_enqueued_again_is_not_enqueued_once_more(sweeper, records, client, app) -> None:
    enqueued(records, app)
    client.delete("llm")
    assert [sweep(sweeper, client) for _ in range(3)] == [1, 0, 0]
    assert client.llen("llm") == 1


def test_a_task_that_waits_in_its_queue_is_left_alone(sweeper, records, client, app) -> None:
    enqueued(records, app)
    assert sweep(sweeper, client) == 0
    assert client.llen("llm") == 1


@contextmanager
def taken(app: GraycatCelery, queue: str) -> Iterator[None]:
    """Hold the oldest message of a queue unacknowledged, as a worker does."""
    with app.connection_for_read() as connection:
        channel: Any = connection.channel()
        assert channel.basic_get(queue)
        yield


def test_a_task_whose_message_a_worker_holds_is_left_alone(sweeper, records, client, app) -> None:
    enqueued(records, app)
    with taken(app, "llm"):
        assert (client.llen("llm"), client.hlen("unacked")) == (0, 1)
        assert sweep(sweeper, client) == 0
        assert client.llen("llm") == 0


def test_a_task_whose_message_is_on_its_way_to_a_worker_is_left_alone(
    sweeper, records, client, app, monkeypatch
) -> None:
    task_id = enqueued(records, app)
    gone = enqueued(records, app, owner="somebody else")
    message = next(text for text in client.lrange("llm", 0, -1) if task_id.encode() in text)
    client.delete("llm")

    def arrive(_seconds: float) -> None:
        client.hset("unacked:llm", "tag", json.dumps([json.loads(message), "", "llm"]))

    monkeypatch.setattr("graycat.worker.sweeper.time.sleep", arrive)
    assert sweep(sweeper, client) == 1
    assert ids_in(client, "llm") == [gone]


def test_a_running_task_with_a_fresh_lease_is_left_alone(sweeper, records, client, app) -> None:
    claimed(records, enqueued(records, app))
    client.delete("llm")
    assert sweep(sweeper, client) == 0
    assert client.llen("llm") == 0


def test_a_running_task_whose_lease_is_stale_is_enqueued_again(
    sweeper, hasty, records, client, app, monkeypatch
) -> None:
    task_id = enqueued(hasty, app)
    claimed(hasty, task_id)
    client.delete("llm")
    # Its message may be on its way back to the queue.
    assert sweep(sweeper, client) == 0
    monkeypatch.setattr("graycat.worker.sweeper.RESTORE_TIMEOUT_S", 0.2)
    eventually(lambda: sweep(sweeper, client) == 1)
    assert ids_in(client, "llm") == [task_id]
    assert claimed(records, task_id).number == 2


def test_a_released_task_whose_message_is_lost_is_enqueued_again(sweeper, records, client, app) -> None:
    task_id = enqueued(records, app)
    records.release(claimed(records, task_id))
    client.delete("llm")
    assert sweep(sweeper, client) == 1
    assert ids_in(client, "llm") == [task_id]


def test_a_task_that_was_made_a_moment_ago_is_left_alone(broker: Valkey, records, client, app) -> None:
    enqueued(records, app)
    client.delete("llm")
    assert Sweeper(client, broker.settings, app).sweep() == 0
    assert client.llen("llm") == 0


def test_a_task_past_its_queue_deadline_expires(broker: Valkey, sweeper, client, app) -> None:
    records = TaskRecords(client, changed(broker.settings, queue_ttl_s=0.01))
    waiting, lost = enqueued(records, app), enqueued(records, app, queue="llm.batch")
    client.delete("llm.batch")
    assert sweep(sweeper, client) == 0
    for task_id in (waiting, lost):
        assert (records.get(task_id)["state"], kinds(records, task_id)) == ("expired", ["error"])
    assert client.llen("llm.batch") == 0


@pytest.mark.parametrize("end", ["succeed", "cancel"])
def test_a_task_that_has_ended_is_left_alone(sweeper, records, client, end: str) -> None:
    task_id = accepted(records)
    if end == "succeed":
        records.succeed(claimed(records, task_id), 200, b"")
    else:
        records.cancel(task_id)
    client.delete("llm")
    assert sweep(sweeper, client) == 0
    assert client.llen("llm") == 0


def test_an_id_whose_record_is_gone_is_forgotten(sweeper, client) -> None:
    client.zadd(keys.live_key("llm"), {"nobody": 1})
    assert sweep(sweeper, client) == 0
    assert client.zcard(keys.live_key("llm")) == 0


def test_only_one_worker_sweeps_at_a_time(broker: Valkey, sweeper, records, client, app) -> None:
    enqueued(records, app)
    client.delete("llm")
    other = Sweeper(client, changed(broker.settings, lease_s=5), app)
    assert other.sweep() == 0
    assert 0 < client.pttl(LOCKS["llm"]) <= 5000
    now = time.time()
    eventually(lambda: time.time() > now + 2 * LEASE_S)
    assert sweeper.sweep() == 0
    client.delete(*LOCKS.values())
    assert sweeper.sweep() == 1


def test_a_sweeper_that_dies_keeps_the_others_away_for_a_moment_only(sweeper, records, client, app) -> None:
    enqueued(records, app)
    assert sweeper.sweep() == 0
    client.delete("llm")
    eventually(lambda: sweeper.sweep() == 1)


def test_a_worker_with_a_wrong_clock_does_no_harm(broker: Valkey, records, client, app, monkeypatch) -> None:
    leased = enqueued(records, app)
    claimed(records, leased)
    client.delete("llm")
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + 3600)
    assert Sweeper(client, broker.settings, app).sweep() == 0
    assert client.llen("llm") == 0


def test_a_worker_whose_clock_is_slow_still_finds_what_is_lost(sweeper, records, client, app, monkeypatch) -> None:
    enqueued(records, app)
    client.delete("llm")
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() - 3600)
    eventually(lambda: sweeper.sweep() == 1, 1.0)


def test_without_a_broker_nothing_is_swept(no_broker: Settings) -> None:
    sweeper = Sweeper(connect(no_broker), no_broker, celery_app(no_broker.home))
    with pytest.raises(BrokerUnavailable):
        sweeper.sweep()


def sweeper_of(kind: str, broker: Valkey) -> Sweeper:
    return Sweeper(broker.client, changed(broker.settings, lease_s=LEASE_S), create_celery(broker.settings, kind=kind))


def test_a_worker_sweeps_for_its_kind_and_the_control_worker_for_all(broker: Valkey, records, client, app) -> None:
    enqueued(records, app)
    enqueued(records, app, kind="sd.txt2img", queue="sd:a-model")
    client.delete("llm", "sd:a-model")
    assert [sweep(sweeper_of(kind, broker), client) for kind in ("quick", "sd", "sd", "control")] == [0, 1, 0, 1]
    assert (client.llen("llm"), client.llen("sd:a-model")) == (1, 1)


def test_while_one_kind_is_swept_the_others_are_too(broker: Valkey, records, client, app) -> None:
    enqueued(records, app)
    client.delete("llm")
    now = time.time()
    eventually(lambda: time.time() > now + 2 * LEASE_S)
    client.set(LOCKS["sd"], "1")
    assert sweeper_of("control", broker).sweep() == 1


@pytest.mark.parametrize("kind", ["llm", "control", ""])
def test_what_a_worker_of_the_kind_holds_is_left_alone(broker: Valkey, records, client, app, kind: str) -> None:
    enqueued(records, app)
    with taken(create_celery(broker.settings, kind="llm"), "llm"):
        assert client.hlen("unacked:llm") == 1
        assert sweep(sweeper_of(kind, broker), client) == 0


def test_what_an_operator_has_taken_by_hand_is_lost_after_a_while(sweeper, records, client, app, monkeypatch) -> None:
    task_id = enqueued(records, app)
    monkeypatch.setattr("graycat.worker.sweeper.RESTORE_TIMEOUT_S", 0.2)
    with taken(app, "llm"):
        assert sweep(sweeper, client) == 0
        eventually(lambda: sweep(sweeper, client) == 1)
    assert ids_in(client, "llm") == [task_id]


@pytest.mark.parametrize("damage", [{"enqueued_ms": "soon"}, {"lease_ms": "x"}])
def test_a_record_that_makes_no_sense_does_not_hold_up_the_others(sweeper, records, client, app, damage) -> None:
    first, second = enqueued(records, app), enqueued(records, app, owner="another")
    client.hset(keys.record_key(first), mapping=damage)
    client.delete("llm")
    assert sweep(sweeper, client) == 1
    assert ids_in(client, "llm") == [second]


def test_purged_tasks_come_back_in_their_order(sweeper, records, client, app) -> None:
    tasks = []
    for number in range(3):
        tasks.append(enqueued(records, app, owner=f"owner-{number}"))
        # Those of one millisecond have no order.
        made = time.time()
        eventually(lambda made=made: time.time() > made + 0.001)  # type: ignore[misc]
    parked = enqueued(records, app, owner="owner-0")
    app.control.purge()
    assert client.llen("llm") == 0
    assert sweep(sweeper, client) == 3
    assert list(reversed(ids_in(client, "llm"))) == tasks
    for task_id in tasks:
        client.rpop("llm")
        claimed(records, task_id)
    assert ids_in(client, "llm") == [parked]


@pytest.mark.parametrize("queued", [True, False])
def test_a_message_that_is_nested_too_deeply_keeps_no_other_from_being_found(
    sweeper, records, client, app, queued: bool
) -> None:
    task_id = enqueued(records, app)
    client.delete("llm")
    deep = b"[" * (sys.getrecursionlimit() + 10)
    if queued:
        client.lpush("llm", deep)
    else:
        client.hset(unacked_keys("llm")["unacked_key"], "tag", deep)
    assert sweep(sweeper, client) == 1
    client.lrem("llm", 1, deep)
    assert ids_in(client, "llm") == [task_id]
