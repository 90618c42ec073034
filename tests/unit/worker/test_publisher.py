from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence

import pytest
import redis

from graycat.broker.client import connect
from graycat.broker.keys import events_key
from graycat.errors import BrokerUnavailable
from graycat.queue.models import Attempt, ChunkBatch, Verdict
from graycat.queue.records import TaskRecords
from graycat.worker.publisher import MAX_UNREAD_REPLIES, BatchVerdicts, Publisher
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey, chunks, eventually, started


@pytest.fixture
def publisher(broker: Valkey, records: TaskRecords) -> Iterator[Publisher]:
    made = Publisher(broker.client, records)
    yield made
    made.flush()


def each(attempt: Attempt, first: int, last: int) -> Iterator[ChunkBatch]:
    """Yield batches of a chunk each."""
    for number in range(first, last + 1):
        yield ChunkBatch(attempt, number, [b"%d" % number])


def by_number(verdicts: BatchVerdicts) -> list[tuple[int, Verdict]]:
    return [(batch.number, verdict) for batch, verdict in verdicts]


def test_every_batch_is_written_and_gets_one_verdict(publisher, records) -> None:
    attempt = started(records)
    verdicts: BatchVerdicts = []
    for batch in each(attempt, 1, 500):
        verdicts += publisher.publish([batch])
    verdicts += publisher.flush()
    assert by_number(verdicts) == [(number, Verdict.GO_ON) for number in range(1, 501)]
    assert chunks(records, attempt.task_id) == [b"%d" % number for number in range(1, 501)]
    assert not publisher.has_pending


def test_publishing_does_not_wait_for_a_verdict_that_has_not_come(mortal_broker: Valkey) -> None:
    records = TaskRecords(mortal_broker.client, mortal_broker.settings)
    publisher, attempt = Publisher(mortal_broker.client, records), started(records)
    publisher.publish(list(each(attempt, 1, 1)))
    publisher.flush()
    pid = mortal_broker.client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        assert [publisher.publish([batch]) for batch in each(attempt, 2, 9)] == [[]] * 8
    finally:
        os.kill(pid, signal.SIGCONT)
    assert by_number(publisher.flush()) == [(number, Verdict.GO_ON) for number in range(2, 10)]


def test_a_verdict_comes_with_a_later_batch_or_when_it_is_asked_for(publisher, records) -> None:
    good, cancelled, stale = (started(records) for _ in range(3))
    records.cancel(cancelled.task_id)
    records.release(stale)
    verdicts = publisher.publish([ChunkBatch(attempt, 1, [b"a"]) for attempt in (good, cancelled, stale)])
    verdicts += publisher.flush()
    assert [verdict for _, verdict in verdicts] == [Verdict.GO_ON, Verdict.CANCEL, Verdict.STALE]
    verdicts = publisher.publish([ChunkBatch(cancelled, 2, [b"b"])])
    eventually(lambda: verdicts.extend(publisher.publish([ChunkBatch(good, 2, [b"b"])])) or verdicts)
    assert verdicts[0][1] is Verdict.CANCEL


def test_verdicts_are_read_when_several_have_come(publisher, records) -> None:
    attempt = started(records)
    records.cancel(attempt.task_id)
    verdicts: BatchVerdicts = []
    for batch in each(attempt, 1, MAX_UNREAD_REPLIES):
        verdicts += publisher.publish([batch])
    eventually(lambda: len(chunks(records, attempt.task_id)) == MAX_UNREAD_REPLIES)
    assert (verdicts, publisher.has_pending) == ([], True)
    verdicts = publisher.publish(list(each(attempt, MAX_UNREAD_REPLIES + 1, MAX_UNREAD_REPLIES + 1)))
    assert by_number(verdicts)[:MAX_UNREAD_REPLIES] == [
        (number, Verdict.CANCEL) for number in range(1, MAX_UNREAD_REPLIES + 1)
    ]


def test_nothing_to_flush_is_no_error(publisher) -> None:
    assert (publisher.flush(), publisher.publish([])) == ([], [])


def test_a_script_that_the_broker_has_forgotten_loses_nothing(publisher, records, client: BrokerClient) -> None:
    attempt = started(records)
    publisher.publish(list(each(attempt, 1, 3)))
    publisher.flush()
    client.script_flush()
    verdicts: BatchVerdicts = []
    for batch in each(attempt, 4, 60):
        verdicts += publisher.publish([batch])
    verdicts += publisher.flush()
    assert by_number(verdicts) == [(number, Verdict.GO_ON) for number in range(4, 61)]
    assert chunks(records, attempt.task_id) == [b"%d" % number for number in range(1, 61)]


def restart(broker: Valkey) -> None:
    broker.kill()
    broker.start()


def refusals(client: BrokerClient) -> int:
    """Return how many commands the broker has refused because it has no such script."""
    errors: dict[str, dict[str, int]] = client.info("errorstats")
    return errors.get("errorstat_NOSCRIPT", {}).get("count", 0)


def test_chunks_behind_one_that_was_refused_are_not_written_before_it(publisher, records, client: BrokerClient) -> None:
    attempt = started(records)
    publisher.publish(list(each(attempt, 1, 1)))
    publisher.flush()
    client.script_flush()
    before = refusals(client)
    publisher.publish(list(each(attempt, 2, 2)))
    eventually(lambda: refusals(client) > before)
    # Home loads the scripts before the reply to the second chunk is read.
    assert records.are_scripts_loaded()
    verdicts = [verdict for batch in each(attempt, 3, 6) for verdict in publisher.publish([batch])]
    verdicts += publisher.flush()
    assert chunks(records, attempt.task_id) == [b"%d" % number for number in range(1, 7)]
    assert by_number(verdicts) == [(number, Verdict.GO_ON) for number in range(2, 7)]


def test_a_stream_goes_on_behind_chunks_that_were_written_and_that_the_broker_has_lost(
    publisher, records, client: BrokerClient
) -> None:
    attempt, other = started(records), started(records)
    publisher.publish([*each(attempt, 1, 3), *each(other, 1, 2)])
    publisher.flush()
    # As a crash does, or a failover to a replica that has lagged.
    key = events_key(attempt.task_id)
    for event_id, _ in client.xrevrange(key, count=2):
        client.xdel(key, event_id)
    verdicts = publisher.publish([*each(attempt, 4, 5), *each(other, 3, 3)]) + publisher.flush()
    verdicts += publisher.publish(list(each(attempt, 6, 6))) + publisher.flush()
    assert verdicts == [(batch, Verdict.GO_ON) for batch, _ in verdicts]
    assert (len(verdicts), publisher.pop_refused()) == (4, [])
    assert chunks(records, attempt.task_id) == [b"1", b"4", b"5", b"6"]
    assert chunks(records, other.task_id) == [b"1", b"2", b"3"]


def test_what_comes_behind_a_batch_that_the_broker_refuses_is_refused_as_well(
    publisher, records, client: BrokerClient, monkeypatch
) -> None:
    attempt = started(records)
    publisher.publish(list(each(attempt, 1, 1)))
    publisher.flush()
    publish_all = records.publish_all

    def refuse_the_second(batches: Sequence[ChunkBatch], *more: object) -> list[Verdict]:
        if any(batch.number == 2 for batch in batches):
            raise redis.ResponseError("ERR refused")
        return publish_all(batches, *more)

    monkeypatch.setattr(records, "publish_all", refuse_the_second)
    client.script_flush()
    before = refusals(client)
    publisher.publish(list(each(attempt, 2, 2)))
    eventually(lambda: refusals(client) > before)
    assert records.are_scripts_loaded()
    assert publisher.publish(list(each(attempt, 3, 4))) + publisher.flush() == []
    assert [batch.number for batch, _ in publisher.pop_refused()] == [2, 3, 4]
    assert chunks(records, attempt.task_id) == [b"1"]


@pytest.mark.parametrize("at", ["publish", "flush"])
def test_what_a_broken_connection_may_have_lost_is_sent_again_and_written_once(mortal_broker: Valkey, at: str) -> None:
    client = connect(mortal_broker.settings, patient=True)
    records = TaskRecords(client, mortal_broker.settings)
    publisher, attempt = Publisher(client, records), started(records)
    verdicts = publisher.publish(list(each(attempt, 1, 3)))
    restart(mortal_broker)
    if at == "publish":
        verdicts += publisher.publish(list(each(attempt, 4, 5)))
    verdicts += publisher.flush()
    count = 5 if at == "publish" else 3
    assert by_number(verdicts) == [(number, Verdict.GO_ON) for number in range(1, count + 1)]
    assert chunks(records, attempt.task_id) == [b"%d" % number for number in range(1, count + 1)]


def test_without_a_broker_it_raises_and_keeps_the_pending_batches(mortal_broker: Valkey) -> None:
    records = TaskRecords(mortal_broker.client, mortal_broker.settings)
    publisher, attempt = Publisher(mortal_broker.client, records), started(records)
    publisher.publish(list(each(attempt, 1, 1)))
    publisher.flush()
    mortal_broker.kill()
    acts: list[Callable[[], BatchVerdicts]] = [lambda: publisher.publish(list(each(attempt, 2, 3))), publisher.flush]
    for act in acts:
        with pytest.raises(BrokerUnavailable):
            act()
    assert [batch.number for batch in publisher.discard_pending()] == [2, 3]
    mortal_broker.start()
    assert by_number(publisher.publish(list(each(attempt, 2, 2))) + publisher.flush()) == [(2, Verdict.GO_ON)]


def test_more_than_a_connection_holds_is_sent_whole(publisher, records) -> None:
    attempt, large = started(records), b"x" * 8_000_000
    verdicts = publisher.publish([ChunkBatch(attempt, number, [large]) for number in (1, 2, 3)])
    assert by_number(verdicts + publisher.flush()) == [(number, Verdict.GO_ON) for number in (1, 2, 3)]
    assert chunks(records, attempt.task_id) == [large] * 3


def test_replies_to_discarded_batches_are_not_taken_for_others(publisher, records) -> None:
    attempt, other = started(records), started(records)
    for _ in range(50):
        publisher.publish([ChunkBatch(attempt, 1, [b"discarded"])])
        publisher.discard_pending()
    records.release(other)
    verdicts = publisher.publish([ChunkBatch(other, 1, [b"a"])])
    assert [verdict for _, verdict in verdicts + publisher.flush()] == [Verdict.STALE]
