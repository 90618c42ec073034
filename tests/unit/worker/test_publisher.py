from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from graycat.broker.client import connect
from graycat.errors import BrokerUnavailable
from graycat.queue.models import Attempt, ChunkBatch, Verdict
from graycat.queue.records import TaskRecords
from graycat.worker.publisher import UNREAD, Publisher, Settled
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey, chunks, eventually, started


@pytest.fixture
def publisher(broker: Valkey, records: TaskRecords) -> Iterator[Publisher]:
    made = Publisher(broker.client, records)
    yield made
    made.settle()


def each(attempt: Attempt, first: int, last: int) -> Iterator[ChunkBatch]:
    """Yield batches of a chunk each."""
    for number in range(first, last + 1):
        yield ChunkBatch(attempt, number, [b"%d" % number])


def verdicts(settled: Settled) -> list[tuple[int, Verdict]]:
    return [(batch.number, verdict) for batch, verdict in settled]


def test_every_batch_is_written_and_settled_once(publisher, records) -> None:
    attempt = started(records)
    settled: Settled = []
    for batch in each(attempt, 1, 500):
        settled += publisher.publish([batch])
    settled += publisher.settle()
    assert verdicts(settled) == [(number, Verdict.GO_ON) for number in range(1, 501)]
    assert chunks(records, attempt.task_id) == [b"%d" % number for number in range(1, 501)]
    assert not publisher.unsettled


def test_nobody_waits_for_a_verdict_that_is_not_here(mortal_broker: Valkey) -> None:
    records = TaskRecords(mortal_broker.client, mortal_broker.settings)
    publisher, attempt = Publisher(mortal_broker.client, records), started(records)
    publisher.publish(list(each(attempt, 1, 1)))
    publisher.settle()
    pid = mortal_broker.client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        assert [publisher.publish([batch]) for batch in each(attempt, 2, 9)] == [[]] * 8
    finally:
        os.kill(pid, signal.SIGCONT)
    assert verdicts(publisher.settle()) == [(number, Verdict.GO_ON) for number in range(2, 10)]


def test_a_verdict_comes_with_a_later_batch_or_when_it_is_asked_for(publisher, records) -> None:
    good, cancelled, stale = (started(records) for _ in range(3))
    records.cancel(cancelled.task_id)
    records.release(stale)
    settled = publisher.publish([ChunkBatch(attempt, 1, [b"a"]) for attempt in (good, cancelled, stale)])
    settled += publisher.settle()
    assert [verdict for _, verdict in settled] == [Verdict.GO_ON, Verdict.CANCEL, Verdict.STALE]
    settled = publisher.publish([ChunkBatch(cancelled, 2, [b"b"])])
    eventually(lambda: settled.extend(publisher.publish([ChunkBatch(good, 2, [b"b"])])) or settled)
    assert settled[0][1] is Verdict.CANCEL


def test_verdicts_are_read_once_a_few_are_here(publisher, records) -> None:
    attempt = started(records)
    records.cancel(attempt.task_id)
    settled: Settled = []
    for batch in each(attempt, 1, UNREAD):
        settled += publisher.publish([batch])
    eventually(lambda: len(chunks(records, attempt.task_id)) == UNREAD)
    assert (settled, publisher.unsettled) == ([], True)
    settled = publisher.publish(list(each(attempt, UNREAD + 1, UNREAD + 1)))
    assert verdicts(settled)[:UNREAD] == [(number, Verdict.CANCEL) for number in range(1, UNREAD + 1)]


def test_nothing_to_settle_is_no_mistake(publisher) -> None:
    assert (publisher.settle(), publisher.publish([])) == ([], [])


def test_a_script_that_the_broker_has_forgotten_loses_nothing(publisher, records, client: BrokerClient) -> None:
    attempt = started(records)
    publisher.publish(list(each(attempt, 1, 3)))
    publisher.settle()
    client.script_flush()
    settled: Settled = []
    for batch in each(attempt, 4, 60):
        settled += publisher.publish([batch])
    settled += publisher.settle()
    assert verdicts(settled) == [(number, Verdict.GO_ON) for number in range(4, 61)]
    assert chunks(records, attempt.task_id) == [b"%d" % number for number in range(1, 61)]


def restart(broker: Valkey) -> None:
    broker.kill()
    broker.start()


@pytest.mark.parametrize("at", ["publish", "settle"])
def test_what_a_broken_connection_may_have_lost_is_sent_again_and_written_once(mortal_broker: Valkey, at: str) -> None:
    client = connect(mortal_broker.settings, patient=True)
    records = TaskRecords(client, mortal_broker.settings)
    publisher, attempt = Publisher(client, records), started(records)
    settled = publisher.publish(list(each(attempt, 1, 3)))
    restart(mortal_broker)
    if at == "publish":
        settled += publisher.publish(list(each(attempt, 4, 5)))
    settled += publisher.settle()
    count = 5 if at == "publish" else 3
    assert verdicts(settled) == [(number, Verdict.GO_ON) for number in range(1, count + 1)]
    assert chunks(records, attempt.task_id) == [b"%d" % number for number in range(1, count + 1)]


def test_without_a_broker_it_says_so_and_knows_what_is_lost(mortal_broker: Valkey) -> None:
    records = TaskRecords(mortal_broker.client, mortal_broker.settings)
    publisher, attempt = Publisher(mortal_broker.client, records), started(records)
    publisher.publish(list(each(attempt, 1, 1)))
    publisher.settle()
    mortal_broker.kill()
    acts: list[Callable[[], Settled]] = [lambda: publisher.publish(list(each(attempt, 2, 3))), publisher.settle]
    for act in acts:
        with pytest.raises(BrokerUnavailable):
            act()
    assert [batch.number for batch in publisher.forget()] == [2, 3]
    mortal_broker.start()
    assert verdicts(publisher.publish(list(each(attempt, 2, 2))) + publisher.settle()) == [(2, Verdict.GO_ON)]


def test_more_than_a_connection_holds_is_sent_whole(publisher, records) -> None:
    attempt, large = started(records), b"x" * 8_000_000
    settled = publisher.publish([ChunkBatch(attempt, number, [large]) for number in (1, 2, 3)])
    assert verdicts(settled + publisher.settle()) == [(number, Verdict.GO_ON) for number in (1, 2, 3)]
    assert chunks(records, attempt.task_id) == [large] * 3


def test_replies_to_what_was_given_up_are_nobody_s(publisher, records) -> None:
    attempt, other = started(records), started(records)
    for _ in range(50):
        publisher.publish([ChunkBatch(attempt, 1, [b"given up"])])
        publisher.forget()
    records.release(other)
    settled = publisher.publish([ChunkBatch(other, 1, [b"a"])])
    assert [verdict for _, verdict in settled + publisher.settle()] == [Verdict.STALE]
