"""How chunks are published: each once, several attempts' together."""

from __future__ import annotations

import pytest

from graycat.errors import BrokerUnavailable
from graycat.queue.models import ChunkBatch, Verdict
from graycat.queue.records import TaskRecords
from tests.support.helpers import Valkey, changed, chunks, claimed, eventually, kinds, started


def test_a_batch_that_is_sent_twice_is_written_once(records: TaskRecords) -> None:
    attempt = started(records)
    for number, batch in [(1, [b"a", b"b"]), (1, [b"a", b"b"]), (3, [b"c"]), (1, [b"a", b"b"]), (3, [b"c"])]:
        assert records.publish(attempt, number, batch) is False
    assert chunks(records, attempt.task_id) == [b"a", b"b", b"c"]


def test_each_attempt_counts_its_batches_from_one(records: TaskRecords) -> None:
    first = started(records)
    for number in (1, 2, 3):
        records.publish(first, number, [b"first"])
    records.release(first)
    records.publish(claimed(records, first.task_id), 1, [b"second"])
    assert chunks(records, first.task_id) == [b"first"] * 3 + [b"second"]


def test_several_attempts_publish_at_once_and_each_has_its_verdict(records: TaskRecords) -> None:
    good, cancelled, stale = (started(records) for _ in range(3))
    records.cancel(cancelled.task_id)
    records.release(stale)
    batches = [
        ChunkBatch(good, 1, [b"a", b"b"]),
        ChunkBatch(cancelled, 1, [b"c"]),
        ChunkBatch(stale, 1, [b"d"]),
        ChunkBatch(good, 3, [b"e"]),
    ]
    assert records.publish_all(batches) == [Verdict.GO_ON, Verdict.CANCEL, Verdict.STALE, Verdict.GO_ON]
    assert [chunks(records, a.task_id) for a in (good, cancelled, stale)] == [[b"a", b"b", b"e"], [b"c"], []]


def test_publishing_at_once_is_one_round_trip(mortal_broker: Valkey) -> None:
    records = TaskRecords(mortal_broker.client, mortal_broker.settings)
    attempts = [started(records) for _ in range(8)]
    before = mortal_broker.client.info("stats")["total_reads_processed"]
    records.publish_all([ChunkBatch(attempt, 1, [b"a"]) for attempt in attempts])
    # One is the second question's own.
    assert mortal_broker.client.info("stats")["total_reads_processed"] - before == 2


def test_nothing_to_publish_is_no_mistake(records: TaskRecords) -> None:
    assert records.publish_all([]) == []


def test_batches_that_overlap_write_each_chunk_once(records: TaskRecords) -> None:
    attempt = started(records)
    for number, batch in [(1, [b"a", b"b"]), (2, [b"b", b"c"]), (1, [b"a", b"b", b"c", b"d"])]:
        records.publish(attempt, number, batch)
    assert chunks(records, attempt.task_id) == [b"a", b"b", b"c", b"d"]


def test_attempts_that_start_in_the_same_millisecond_lose_no_chunk(broker: Valkey) -> None:
    records = TaskRecords(broker.client, changed(broker.settings, max_attempts=3))

    def three_at_once() -> bool:
        attempts = [started(records)]
        task_id = attempts[0].task_id
        for word in (b"first", b"second", b"third"):
            records.publish_all([ChunkBatch(attempts[-1], 1, [word + b" a", word + b" b"])])
            records.publish(attempts[-1], 3, [word + b" c"])
            if word != b"third":
                records.release(attempts[-1])
                attempts.append(claimed(records, task_id))
        wanted = [word + part for word in (b"first", b"second", b"third") for part in (b" a", b" b", b" c")]
        assert chunks(records, task_id) == wanted
        records.succeed(attempts[-1], 200, b"")
        assert kinds(records, task_id)[-1] == "result"
        return len({attempt.started_id.partition("-")[0] for attempt in attempts}) < 3

    eventually(three_at_once)


def test_a_chunk_that_cannot_be_written_is_not_lost_without_a_word(mortal_broker: Valkey) -> None:
    records = TaskRecords(mortal_broker.client, mortal_broker.settings)
    attempt = started(records)
    records.publish(attempt, 1, [b"a"])
    mortal_broker.client.config_set("min-replicas-to-write", 1)
    with pytest.raises(BrokerUnavailable):
        records.publish(attempt, 2, [b"b"])
    mortal_broker.client.config_set("min-replicas-to-write", 0)
    records.publish(attempt, 2, [b"b"])
    assert chunks(records, attempt.task_id) == [b"a", b"b"]
