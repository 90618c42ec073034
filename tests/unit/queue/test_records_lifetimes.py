"""How long records and streams live, and who hears of their events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from graycat.broker import keys
from graycat.errors import TaskTimeout
from graycat.queue.events import TaskEvent
from graycat.queue.records import TaskRecords
from graycat.queue.stored import StoredBytes
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey, accepted, changed, claimed, eventually, kinds, new_task, started

QUEUE_S, EXEC_S, RECORD_S, EVENTS_S = 60.0, 600.0, 3600.0, 300.0


def seconds_left(client: BrokerClient, key: str) -> float:
    """Return a key's lifetime; negative where it has none."""
    left: int = client.pttl(key)
    return left / 1000


def records_with(broker: Valkey, **changes: Any) -> TaskRecords:
    return TaskRecords(broker.client, changed(broker.settings, **changes))


def succeeded(broker: Valkey, **changes: Any) -> str:
    records = records_with(broker, **changes)
    attempt = started(records)
    records.publish(attempt, 1, [b"a"])
    assert records.succeed(attempt, 200, b"")
    return attempt.task_id


def failed(broker: Valkey) -> str:
    records = records_with(broker)
    attempt = started(records)
    assert records.fail(attempt, TaskTimeout())
    return attempt.task_id


def cancelled_while_queued(broker: Valkey) -> str:
    records = records_with(broker)
    task_id = accepted(records)
    records.cancel(task_id)
    return task_id


def cancelled_while_running(broker: Valkey) -> str:
    records = records_with(broker)
    attempt = started(records)
    records.cancel(attempt.task_id)
    assert records.finish_cancelled(attempt)
    return attempt.task_id


def expired(broker: Valkey) -> str:
    records = records_with(broker, queue_ttl_s=0.001)
    task_id = accepted(records)
    eventually(lambda: records.expire(task_id))
    return task_id


def lost(broker: Valkey) -> str:
    records = records_with(broker, max_attempts=1)
    attempt = started(records)
    records.release(attempt)
    assert records.claim(attempt.task_id, "llm@here") == "lost"
    return attempt.task_id


ENDED = [succeeded, failed, cancelled_while_queued, cancelled_while_running, expired, lost]


def test_a_queued_record_outlives_all_that_may_become_of_it(records: TaskRecords, client: BrokerClient) -> None:
    task_id = accepted(records)
    most_s = QUEUE_S + EXEC_S + RECORD_S
    assert most_s - 10 < seconds_left(client, keys.record_key(task_id)) <= most_s


def test_a_running_task_lives_while_it_may_run_and_as_long_as_its_answer(
    records: TaskRecords, client: BrokerClient
) -> None:
    attempt = started(records)
    records.publish(attempt, 1, [b"a"])
    for key in (keys.record_key(attempt.task_id), keys.events_key(attempt.task_id)):
        assert seconds_left(client, key) >= EXEC_S + RECORD_S


def test_a_released_task_keeps_a_lifetime(records: TaskRecords, client: BrokerClient) -> None:
    attempt = started(records)
    records.release(attempt)
    for key in (keys.record_key(attempt.task_id), keys.events_key(attempt.task_id)):
        assert seconds_left(client, key) >= EXEC_S + RECORD_S


@pytest.mark.parametrize("end", ENDED)
def test_an_ended_task_is_kept_for_the_stated_times(
    broker: Valkey, client: BrokerClient, end: Callable[[Valkey], str]
) -> None:
    task_id = end(broker)
    assert RECORD_S - 10 < seconds_left(client, keys.record_key(task_id)) <= RECORD_S
    assert EVENTS_S - 10 < seconds_left(client, keys.events_key(task_id)) <= EVENTS_S
    assert client.zscore(keys.live_key("llm"), task_id) is None


def test_what_is_over_is_forgotten_by_itself(broker: Valkey) -> None:
    records = records_with(broker)
    task_id = succeeded(broker, record_ttl_s=0.05, events_ttl_s=0.01)
    eventually(lambda: not records.events(task_id))
    eventually(lambda: not records.get(task_id))
    broker.client.delete("llm")
    StoredBytes(broker.client).settle()
    assert set(broker.client.keys("*")) == {
        keys.means_key("llm").encode(),
        keys.STORED.encode(),
        keys.UNCOUNTED.encode(),
    }
    # When the broker's memory was looked at; no account.
    assert set(broker.client.hkeys(keys.STORED)) == {b"*looked_ms", b"*full"}
    # Its usage is not counted yet.
    assert seconds_left(broker.client, keys.UNCOUNTED) > 0


def test_the_times_of_a_task_come_in_order(broker: Valkey, records: TaskRecords) -> None:
    record = records.get(succeeded(broker))
    names = ("submitted_ms", "started_ms", "first_event_ms", "finished_ms")
    times = [int(record[name]) for name in names]
    assert times == sorted(times)


def test_the_first_start_is_the_one_that_counts(records: TaskRecords, client: BrokerClient) -> None:
    attempt = started(records)
    began = records.get(attempt.task_id)["started_ms"]
    records.release(attempt)
    eventually(lambda: client.time()[0] * 1000 + client.time()[1] // 1000 > int(began))
    claimed(records, attempt.task_id)
    assert records.get(attempt.task_id)["started_ms"] == began


@contextmanager
def eavesdropping(client: BrokerClient) -> Iterator[Callable[[], list[tuple[bytes, bytes]]]]:
    """Listen to every channel of the broker; yield how to get what was said on which so far."""
    with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.psubscribe("*")
        pubsub.get_message(timeout=1)

        def heard() -> list[tuple[bytes, bytes]]:
            client.publish("the end", b"")
            said: list[tuple[bytes, bytes]] = []
            while True:
                message: dict[str, Any] | None = pubsub.get_message(timeout=5)
                if message is not None:
                    if message["channel"] == b"the end":
                        return said
                    said.append((message["channel"], message["data"]))

        yield heard


def test_pushes_reach_the_channel_in_the_record_and_nothing_else(records: TaskRecords, client: BrokerClient) -> None:
    with eavesdropping(client) as heard:
        attempt = started(records, channel="graycat:web:mine")
        records.publish(attempt, 1, [b"data: a b\n\n", b"\x00\xff"])
        records.succeed(attempt, 200, b'{"content": "two words"}')
        said = heard()
    assert {channel for channel, _ in said} == {b"graycat:web:mine"}
    pushed = [TaskEvent.from_push(message) for _, message in said]
    assert {task_id for task_id, _ in pushed} == {attempt.task_id}
    # Nobody waits for `started`: it is for the history.
    assert [event for _, event in pushed] == records.events(attempt.task_id)[1:]
    assert kinds(records, attempt.task_id) == ["started", "chunk", "chunk", "result"]


def test_every_process_that_waits_is_told(records: TaskRecords, client: BrokerClient) -> None:
    with eavesdropping(client) as heard:
        task = new_task(channel="graycat:web:here graycat:web:there")
        records.create(task, b"the message")
        records.cancel(task.id)
        said = heard()
    assert sorted(channel for channel, _ in said) == [b"graycat:web:here", b"graycat:web:there"]


def test_where_nobody_waits_nothing_is_pushed(broker: Valkey, client: BrokerClient) -> None:
    with eavesdropping(client) as heard:
        succeeded(broker)
        assert heard() == []


def test_a_batch_that_is_sent_twice_is_pushed_once(records: TaskRecords, client: BrokerClient) -> None:
    attempt = started(records, channel="graycat:web:here")
    with eavesdropping(client) as heard:
        for _ in range(2):
            records.publish(attempt, 1, [b"a"])
        assert len(heard()) == 1


def test_a_finished_task_keeps_no_prompt(records: TaskRecords, client: BrokerClient) -> None:
    attempt = started(records, body=b'{"prompt": "long"}')
    assert client.hget(f"graycat:task:{attempt.task_id}", "body") == b'{"prompt": "long"}'
    records.succeed(attempt, 200, b"{}")
    assert not client.hexists(f"graycat:task:{attempt.task_id}", "body")
