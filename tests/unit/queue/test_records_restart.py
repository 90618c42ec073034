"""An answer that begins anew: what was published of it is gone, and who reads along is told."""

from __future__ import annotations

import pytest

from graycat.errors import StaleAttempt
from graycat.queue.models import ReleaseReason
from graycat.queue.records import TaskRecords
from tests.support.broker import BrokerClient
from tests.support.helpers import accepted, chunks, claimed, kinds, started


def test_the_chunks_of_earlier_attempts_are_gone_and_new_ones_follow(records: TaskRecords) -> None:
    task_id = accepted(records, shown={})
    first = claimed(records, task_id)
    records.publish(first, 1, [b"a", b"b"])
    records.release(first, ReleaseReason.FREE)
    second = claimed(records, task_id)
    assert second.resumed
    anew = records.restart(second)
    assert not anew.resumed
    # Chunks may come in the same millisecond.
    records.publish(anew, 1, [b"c", b"d"])
    assert kinds(records, task_id) == ["started", "restarted", "chunk", "chunk"]
    assert chunks(records, task_id) == [b"c", b"d"]
    assert records.events(task_id)[1].data == b"2"


def test_nothing_counts_as_begun_until_the_new_answer_begins(records: TaskRecords) -> None:
    task_id = accepted(records, shown={})
    first = claimed(records, task_id)
    records.publish(first, 1, [b"a"])
    records.release(first, ReleaseReason.FREE)
    records.release(records.restart(claimed(records, task_id)), ReleaseReason.FREE)
    assert "first_event_ms" not in records.get(task_id)
    assert not claimed(records, task_id).resumed


def test_an_older_attempt_restarts_nothing(records: TaskRecords) -> None:
    first = started(records, shown={})
    records.publish(first, 1, [b"a"])
    records.release(first, ReleaseReason.FREE)
    claimed(records, first.task_id)
    with pytest.raises(StaleAttempt):
        records.restart(first)
    assert chunks(records, first.task_id) == [b"a"]


def test_who_reads_along_is_told(records: TaskRecords, client: BrokerClient) -> None:
    attempt = started(records, shown={})
    records.subscribe(attempt.task_id, "graycat:web:reader")
    listener = client.pubsub()
    listener.subscribe("graycat:web:reader")
    assert listener.get_message(timeout=2)["type"] == "subscribe"
    anew = records.restart(attempt)
    message = listener.get_message(timeout=2)
    assert message["data"] == f"{attempt.task_id} {anew.started_id} restarted 1".encode()
    listener.close()
