from __future__ import annotations

from typing import cast

import pytest
import redis
from redbeat.schedulers import RedBeatConfig

from graycat.broker import keys
from graycat.broker.quarantine import LONGEST_LOCK_MS
from graycat.celeryapp import create_celery
from graycat.loops.unexpected import UNEXPECTED
from graycat.queue.records import TaskRecords
from graycat.queue.redelivery import unacked_keys
from graycat.queue.topology import LLM_QUICK
from graycat.worker import sweeper
from graycat.worker.sweeper import Sweeper
from graycat.worker.wrong_keys import LOCKS, TYPES, may_move, move_wrong_keys
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey, accepted, changed, claimed, started


def spoil(client: BrokerClient, key: str) -> None:
    """Write a key of another type than graycat's."""
    client.delete(key)
    if TYPES[key] == "string":
        client.hset(key, "another", "program's")
    else:
        client.set(key, "another program's")


@pytest.mark.parametrize("key", TYPES)
def test_a_key_of_another_type_is_moved_aside_for_a_week(client: BrokerClient, key: str) -> None:
    spoil(client, key)
    spoiled = client.dump(key)
    assert move_wrong_keys(client) == [key]
    assert not client.exists(key)
    assert client.dump(keys.wrong_type_key(key)) == spoiled
    assert 0 < client.ttl(keys.wrong_type_key(key)) <= 7 * 24 * 3600
    # It may happen again.
    spoil(client, key)
    assert move_wrong_keys(client) == [key]


@pytest.mark.parametrize("key", LOCKS)
@pytest.mark.parametrize("ttl_ms", [None, LONGEST_LOCK_MS + 60_000])
def test_a_lock_that_never_ends_is_moved_aside_for_a_week(client: BrokerClient, key: str, ttl_ms: int | None) -> None:
    before = UNEXPECTED.labels("wrong keys")._value.get()
    client.set(key, "another program's", px=ttl_ms)
    assert move_wrong_keys(client) == [key]
    assert client.set(key, "graycat's", nx=True, px=6000)
    assert 0 < client.ttl(keys.wrong_type_key(key)) <= 7 * 24 * 3600
    assert UNEXPECTED.labels("wrong keys")._value.get() == before + 1
    # That of a process that works stays.
    assert move_wrong_keys(client) == []
    assert client.get(key) == b"graycat's"


def test_the_locks_are_those_that_are_taken(broker: Valkey, client: BrokerClient) -> None:
    app = create_celery(broker.settings, kind="beat")
    assert {RedBeatConfig(app).lock_key, *sweeper.LOCKS.values()} <= set(LOCKS)


def test_a_sweep_is_made_again_behind_a_lock_that_never_ends(broker: Valkey, client: BrokerClient) -> None:
    client.set(sweeper.LOCKS["llm"], "1")
    lost = Sweeper(client, broker.settings, create_celery(broker.settings, kind="llm"))
    assert lost._lock_kinds() == []
    move_wrong_keys(client)
    assert lost._lock_kinds() == ["llm"]


@pytest.mark.parametrize("name", ["unacked_key", "unacked_index_key"])
def test_a_message_is_taken_again_behind_a_wrong_key_of_the_unacknowledged(
    broker: Valkey, client: BrokerClient, name: str
) -> None:
    client.set(unacked_keys("quick")[name], "another program's")
    move_wrong_keys(client)
    app = create_celery(broker.settings, kind="quick")
    app.send_task("llm.tokenize", args=["an-id"], task_id="an-id", queue=LLM_QUICK)
    received: list[str] = []
    with (
        app.connection_for_read() as connection,
        connection.Consumer(
            [app.amqp.queues[LLM_QUICK]], on_message=lambda message: received.append(message.headers["id"])
        ),
    ):
        connection.drain_events(timeout=5)
    assert received == ["an-id"]
    assert client.hlen(unacked_keys("quick")["unacked_key"]) == 1


def test_what_graycat_writes_stays(records: TaskRecords, client: BrokerClient) -> None:
    records.succeed(started(records), 200, b"")
    accepted(records)
    before = client.dbsize()
    assert (move_wrong_keys(client), client.dbsize()) == ([], before)


@pytest.mark.parametrize("key", [keys.LIVE_TASKS, keys.TURNS])
def test_tasks_are_accepted_and_run_again_behind_it(records: TaskRecords, client: BrokerClient, key: str) -> None:
    client.set(key, "another program's")
    move_wrong_keys(client)
    assert records.succeed(claimed(records, accepted(records)), 200, b"")


def test_a_user_who_may_not_moves_nothing(broker: Valkey, client: BrokerClient) -> None:
    client.set(keys.TURNS, "another program's")
    client.execute_command("ACL", "SETUSER", "box", "on", "nopass", "~*", "+@all", "-rename", "-type")
    url = broker.settings.broker_url
    try:
        with redis.Redis.from_url(url, username="box", password="any") as box:
            assert move_wrong_keys(cast(BrokerClient, box)) == []
    finally:
        client.execute_command("ACL", "DELUSER", "box")
    assert client.type(keys.TURNS) == b"string"


@pytest.mark.parametrize(
    ("url", "looks"),
    [
        ("redis://broker:6379/0", True),
        ("redis://:secret@broker:6379/0", True),
        ("redis://default:secret@broker:6379/0", True),
        ("rediss://desk:secret@broker:6379/0", False),
    ],
)
def test_a_box_does_not_look_for_them(broker: Valkey, url: str, looks: bool) -> None:
    assert may_move(changed(broker.settings, redis_url=url)) is looks
    assert may_move(broker.settings)
