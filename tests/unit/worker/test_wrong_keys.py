from __future__ import annotations

from typing import cast

import pytest
import redis
from redbeat.schedulers import RedBeatConfig

from graycat.broker import keys
from graycat.celeryapp import create_celery
from graycat.queue.key_types import queue_types
from graycat.queue.records import TaskRecords
from graycat.queue.redelivery import unacked_keys
from graycat.queue.topology import LLM_QUICK
from graycat.worker import sweeper
from graycat.worker.sweeper import Sweeper
from graycat.worker.wrong_keys import (
    LOCKS,
    LONGEST_LOCK_MS,
    TYPES,
    mend_batch_turn,
    move_foreign_locks,
    move_wrong_keys,
)
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey, accepted, claimed, started


def write_over(client: BrokerClient, key: str, wanted: str = "") -> None:
    """Put a value of another type into a key."""
    client.delete(key)
    if (wanted or TYPES[key]) == "string":
        client.hset(key, "another", "program's")
    else:
        client.set(key, "another program's")


@pytest.mark.parametrize("key", TYPES)
def test_a_key_of_another_type_is_moved_aside_for_a_week(client: BrokerClient, key: str) -> None:
    write_over(client, key)
    assert move_wrong_keys(client) == [key]
    assert not client.exists(key)
    assert client.type(keys.wrong_type_key(key)) == (b"hash" if TYPES[key] == "string" else b"string")
    assert 0 < client.ttl(keys.wrong_type_key(key)) <= 7 * 24 * 3600
    # It may happen again.
    write_over(client, key)
    assert move_wrong_keys(client) == [key]


@pytest.mark.parametrize("key", queue_types("llm:a-model"))
def test_so_is_a_key_of_one_model_s_queue(records: TaskRecords, client: BrokerClient, key: str) -> None:
    accepted(records, queue="llm:a-model")
    write_over(client, key, queue_types("llm:a-model")[key])
    client.sadd(keys.turns_key("llm"), b"\xff\xfe")
    assert move_wrong_keys(client) == [key]
    accepted(records, queue="llm:a-model")


def test_what_graycat_writes_stays(records: TaskRecords, client: BrokerClient) -> None:
    records.succeed(started(records), 200, b"")
    accepted(records)
    before = client.dbsize()
    assert (move_wrong_keys(client), client.dbsize()) == ([], before)


@pytest.mark.parametrize("key", [keys.live_key("llm"), keys.turns_key("llm"), *queue_types("llm")])
def test_tasks_are_accepted_and_run_again_behind_it(records: TaskRecords, client: BrokerClient, key: str) -> None:
    write_over(client, key)
    move_wrong_keys(client)
    assert records.succeed(claimed(records, accepted(records)), 200, b"")


def test_a_user_who_may_not_moves_nothing(broker: Valkey, client: BrokerClient) -> None:
    client.set(keys.turns_key("llm"), "another program's")
    client.execute_command("ACL", "SETUSER", "box", "on", "nopass", "~*", "+@all", "-rename", "-type")
    url = broker.settings.broker_url
    try:
        with redis.Redis.from_url(url, username="box", password="any") as box:
            assert move_wrong_keys(cast(BrokerClient, box)) == []
    finally:
        client.execute_command("ACL", "DELUSER", "box")
    assert client.type(keys.turns_key("llm")) == b"string"


def test_the_locks_are_those_that_are_taken(broker: Valkey) -> None:
    app = create_celery(broker.settings, kind="beat")
    assert {RedBeatConfig(app).lock_key, *sweeper.LOCKS.values()} <= set(LOCKS)


@pytest.mark.parametrize("key", LOCKS)
@pytest.mark.parametrize("ttl_ms", [None, LONGEST_LOCK_MS + 60_000])
def test_a_lock_that_never_expires_is_moved_aside(client: BrokerClient, key: str, ttl_ms: int | None) -> None:
    client.set(key, "another program's", px=ttl_ms)
    assert move_foreign_locks(client) == [key]
    assert client.get(keys.wrong_type_key(key)) == b"another program's"
    client.set(key, "ours", px=60_000)
    assert (move_foreign_locks(client), client.get(key)) == ([], b"ours")


def test_a_sweep_is_made_again_behind_a_lock_that_never_ends(broker: Valkey, client: BrokerClient) -> None:
    client.set(sweeper.LOCKS["llm"], "1")
    lost = Sweeper(client, broker.settings, create_celery(broker.settings, kind="llm"))
    assert lost._lock_kinds() == []
    move_foreign_locks(client)
    assert lost._lock_kinds() == ["llm"]


@pytest.mark.parametrize("name", ["unacked_key", "unacked_index_key"])
def test_a_message_is_taken_again_behind_a_wrong_key_of_the_unacknowledged(
    broker: Valkey, client: BrokerClient, name: str
) -> None:
    client.set(unacked_keys("quick")[name], "another program's")
    move_wrong_keys(client)
    app = create_celery(broker.settings, kind="quick")
    app.send_task("llm.tokenize", args=["0" * 32], task_id="0" * 32, queue=LLM_QUICK)
    received: list[str] = []
    with (
        app.connection_for_read() as connection,
        connection.Consumer(
            [app.amqp.queues[LLM_QUICK]], on_message=lambda message: received.append(message.headers["id"])
        ),
    ):
        connection.drain_events(timeout=5)
    assert received == ["0" * 32]
    assert client.hlen(unacked_keys("quick")["unacked_key"]) == 1


@pytest.mark.parametrize("turn", ["abc", "", "-5", "1.5", "9" * 19, None])
def test_turns_of_batches_go_on_behind_the_last_one(client: BrokerClient, turn: str | None) -> None:
    client.zadd(keys.LIVE_BATCHES, {"a": 41, "b": 7})
    if turn is not None:
        client.set(keys.BATCH_TURN, turn)
    mend_batch_turn(client)
    assert client.incr(keys.BATCH_TURN) == 42


def test_a_number_of_turns_stays(client: BrokerClient) -> None:
    client.zadd(keys.LIVE_BATCHES, {"a": 41})
    client.set(keys.BATCH_TURN, 50)
    mend_batch_turn(client)
    assert client.get(keys.BATCH_TURN) == b"50"
