"""Keys that another program has written over: nothing is written by halves, and no task's end waits for them."""

from __future__ import annotations

import pytest
import redis

from graycat.broker import keys
from graycat.queue.models import NewTask
from graycat.queue.records import TaskRecords
from tests.support.broker import BrokerClient
from tests.support.helpers import accepted, claimed, new_task, started

STRINGS = (keys.turn_key("llm", "tests"), keys.parked_count_key("llm"), keys.dead_messages_key("llm"))
TURN_KEYS = (*STRINGS, keys.turns_key("llm"), keys.parked_key("llm", "tests"), keys.owners_key("llm"), "llm")
#: What the end of a task takes it out of, or notes it in.
INDEX_KEYS = (
    *(keys.live_key("llm"), keys.owned_key("llm", "tests"), keys.players_key("llm", "a")),
    *(keys.DELIVERIES, keys.failures_key("llm"), keys.means_key("llm")),
)
WEBHOOK = '{"url": "https://example.com", "secret": "", "events": ["started", "succeeded", "failed", "cancelled"]}'


def write_over(client: BrokerClient, key: str) -> None:
    """Put a value of another type into a key."""
    client.delete(key)
    if key in STRINGS:
        client.rpush(key, "another program's")
    else:
        client.set(key, "another program's")


def a_task(owner: str = "tests") -> NewTask:
    return new_task(owner=owner, shown={"name": "x"}, webhook=WEBHOOK)


@pytest.mark.parametrize(
    ("key", "owner"),
    [
        *((key, "tests") for key in TURN_KEYS),
        (keys.live_key("llm"), "tests"),
        (keys.owned_key("llm", "tests"), "tests"),
        (keys.players_key("llm", "a"), "a/player"),
        (keys.listed_key("tests"), "tests"),
    ],
)
def test_a_task_that_cannot_be_accepted_leaves_nothing(
    records: TaskRecords, client: BrokerClient, key: str, owner: str
) -> None:
    write_over(client, key)
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        records.create(a_task(owner), b"message")
    assert client.keys("*") == [key.encode()]


@pytest.mark.parametrize("key", [*TURN_KEYS, *INDEX_KEYS])
@pytest.mark.parametrize("owner", ["tests", "a/player"])
def test_a_task_is_claimed_and_ends_with_its_answer(
    records: TaskRecords, client: BrokerClient, key: str, owner: str
) -> None:
    task = a_task(owner)
    records.create(task, b"message")
    write_over(client, key)
    assert records.succeed(claimed(records, task.id), 200, b"{}")
    assert records.get(task.id)["state"] == "succeeded"
    assert client.pttl(keys.record_key(task.id)) > 0


@pytest.mark.parametrize("key", [*TURN_KEYS, *INDEX_KEYS])
def test_a_queued_task_is_cancelled(records: TaskRecords, client: BrokerClient, key: str) -> None:
    task = a_task()
    records.create(task, b"message")
    write_over(client, key)
    assert records.cancel(task.id) == ("cancelled", "")
    assert records.get(task.id)["state"] == "cancelled"


def test_a_task_whose_events_cannot_be_written_stays_as_it_is(records: TaskRecords, client: BrokerClient) -> None:
    attempt, queued = started(records), accepted(records, owner="b")
    for task_id in (attempt.task_id, queued):
        write_over(client, keys.events_key(task_id))
    before = [client.hgetall(keys.record_key(task_id)) for task_id in (attempt.task_id, queued)]
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        records.succeed(attempt, 200, b"{}")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        records.cancel(queued)
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        records.claim(queued, "llm@here")
    assert [client.hgetall(keys.record_key(task_id)) for task_id in (attempt.task_id, queued)] == before


def test_the_error_names_the_key_and_the_type(records: TaskRecords, client: BrokerClient) -> None:
    write_over(client, keys.parked_key("llm", "tests"))
    with pytest.raises(redis.ResponseError, match="WRONGTYPE list graycat:aside.llm:tests%00llm"):
        accepted(records, owner="tests")


@pytest.mark.parametrize("count", ["abc", "100000000", "-7", "1e3", "9223372036854775807", ""])
@pytest.mark.parametrize("key", [keys.parked_count_key("llm"), keys.dead_messages_key("llm")])
def test_a_counter_that_is_none_keeps_no_task_out(
    records: TaskRecords, client: BrokerClient, key: str, count: str
) -> None:
    client.set(key, count)
    first, second = accepted(records), accepted(records)
    records.cancel(second)
    assert records.succeed(claimed(records, first), 200, b"{}")


@pytest.mark.parametrize("count", ["abc", "100000000", "-7", "0"])
def test_the_sweeper_counts_the_parked_tasks_anew(records: TaskRecords, client: BrokerClient, count: str) -> None:
    for _ in range(3):
        accepted(records, owner="a")
    accepted(records, owner="b")
    client.set(keys.parked_count_key("llm"), count)
    client.set(keys.parked_count_key("sd"), count)
    records.repair_turns(["llm", "sd"])
    assert client.get(keys.parked_count_key("llm")) == b"2"
    assert client.get(keys.parked_count_key("sd")) == b"0"


def test_a_counter_alone_does_not_keep_batches_waiting(records: TaskRecords, client: BrokerClient) -> None:
    client.set(keys.parked_count_key("llm"), 1)
    claimed(records, accepted(records, queue="llm.batch"))


def test_one_owner_s_turn_does_not_keep_the_others_from_theirs(records: TaskRecords, client: BrokerClient) -> None:
    for owner in ("a", "b"):
        for _ in range(2):
            accepted(records, owner=owner)
        client.delete(keys.turn_key("llm", owner))
    client.delete(keys.parked_key("llm", "a"))
    client.set(keys.parked_key("llm", "a"), "another program's")
    assert records.repair_turns(["llm"]) == 1
    assert client.llen(keys.parked_key("llm", "b")) == 0
