from __future__ import annotations

import pytest

from graycat.broker import keys
from graycat.queue.pages import FIRST_COUNT, EventPages
from graycat.queue.records import TaskRecords
from graycat.web.api.followers import TaskFollower, wait_for_end
from graycat.web.services import services_of
from graycat.web.streaming.requests import ClientDisconnected
from tests.support.helpers import (
    AT_ONCE_S,
    PATIENCE_S,
    Stopwatch,
    Valkey,
    accepted,
    changed,
    claimed,
    eventually,
    outcome_of,
    reads_of_streams,
    started,
)

pytestmark = pytest.mark.usefixtures("as_caller")


def test_a_follower_reads_past_and_new_events(records) -> None:
    attempt = started(records)
    records.publish(attempt, 1, [b"a"])
    with TaskFollower(attempt.task_id) as follower:
        records.publish(attempt, 2, [b"b"])
        events = [follower.next_event(PATIENCE_S) for _ in range(3)]
    assert [event.data for event in events if event] == [b"1", b"a", b"b"]


def test_a_follower_returns_at_the_task_s_end(records) -> None:
    attempt = started(records)
    with TaskFollower(attempt.task_id) as follower:
        ended = outcome_of(lambda: follower.wait_for_end(PATIENCE_S))
        clock = Stopwatch()
        records.publish(attempt, 1, [b"a"])
        records.succeed(attempt, 200, b"{}")
        assert ended()
    assert clock.seconds < AT_ONCE_S


def test_a_follower_s_wait_ends_although_events_come(records) -> None:
    attempt = started(records)
    with TaskFollower(attempt.task_id) as follower:
        clock = Stopwatch()
        assert not follower.wait_for_end(0.05)
    assert 0.04 < clock.seconds < AT_ONCE_S


def test_closing_a_follower_does_not_cancel_the_task_and_unsubscribes(records, shared_app) -> None:
    attempt = started(records)
    with TaskFollower(attempt.task_id):
        pass
    assert (records.get(attempt.task_id)["state"], "cancel" in records.get(attempt.task_id)) == ("running", False)
    assert attempt.task_id not in services_of(shared_app).gateway.hub._subscriptions_of(attempt.task_id)


def test_a_disconnect_ends_the_wait(records) -> None:
    with TaskFollower(accepted(records)) as follower:
        result = outcome_of(lambda: follower.next_event(PATIENCE_S))
        clock = Stopwatch()
        follower._client_disconnected()
        with pytest.raises(ClientDisconnected):
            result()
    assert clock.seconds < AT_ONCE_S


def test_a_follower_knows_whether_it_has_caught_up(records) -> None:
    attempt = started(records)
    with TaskFollower(attempt.task_id) as follower:
        assert not follower.caught_up
        follower.next_event(0)
        assert follower.caught_up


def test_a_follower_notices_that_a_task_has_ended_or_is_lost(records, client) -> None:
    task_id = accepted(records)
    with TaskFollower(task_id) as follower:
        assert not follower.task_is_over()
        client.delete(keys.record_key(task_id))
        assert follower.task_is_over()
    with TaskFollower(accepted(records)) as follower:
        records.succeed(claimed(records, follower._subscription.task_id), 200, b"{}")
        assert follower.task_is_over()


def test_a_follower_expires_a_task_past_its_queue_deadline(broker: Valkey, records) -> None:
    task_id = accepted(TaskRecords(broker.client, changed(broker.settings, queue_ttl_s=0.01)))
    with TaskFollower(task_id) as follower:
        eventually(follower.task_is_over)
        assert follower.wait_for_end(PATIENCE_S)


def test_the_end_is_waited_for_without_what_came_before(records, client) -> None:
    attempt = started(records)
    records.publish(attempt, 1, [b"%d" % number for number in range(100)])
    before = reads_of_streams(client)
    wait_for_end(attempt.task_id, 0.05)
    # One look at the newest event, one at what comes behind it.
    assert reads_of_streams(client) - before == {"xrevrange": 1, "xrange": 1}
    assert client.xlen(keys.events_key(attempt.task_id)) > FIRST_COUNT
    records.succeed(attempt, 200, b"")
    before = reads_of_streams(client)
    wait_for_end(attempt.task_id, PATIENCE_S)
    assert reads_of_streams(client) - before == {"xrevrange": 1}


def test_the_end_of_a_long_task_is_found_by_its_position(records, monkeypatch) -> None:
    attempt = started(records)
    records.publish(attempt, 1, [b"a"])
    positions: list[str] = []
    read = TaskRecords.event_pages

    def event_pages(self: TaskRecords, task_id: str, after: str = "0") -> EventPages:
        positions.append(after)
        return read(self, task_id, after)

    monkeypatch.setattr(TaskRecords, "event_pages", event_pages)
    last = records.last_event(attempt.task_id)
    wait_for_end(attempt.task_id, 0.01)
    assert positions == [last.id]
