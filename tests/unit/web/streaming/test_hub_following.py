"""Several watches of one task, and those that begin late."""

from __future__ import annotations

import pytest

from graycat.broker.client import connect
from graycat.errors import BrokerUnavailable
from graycat.queue.events import TaskEvent
from graycat.queue.records import TaskRecords
from graycat.web.streaming.hub import EventHub, Subscription
from tests.support.helpers import PATIENCE_S, Valkey, accepted, claimed, outcome_of
from tests.unit.web.streaming.test_hub import begin, data_of, listening, silent


@pytest.fixture
def hub(broker: Valkey) -> EventHub:
    return listening(broker)


def test_every_watch_of_a_task_sees_all_of_it(hub, records) -> None:
    first, attempt = begin(hub, records, "a")
    others = [hub.subscribe("a") for _ in range(3)]
    records.publish(attempt, 1, [b"1", b"2"])
    hub.unsubscribe(others.pop())
    records.publish(attempt, 3, [b"3"])
    for subscription in (first, *others):
        assert data_of(subscription, 3) == [b"1", b"2", b"3"]
        assert silent(subscription)


def test_who_follows_late_sees_what_came_before(hub, records) -> None:
    accepted(records, id="a")
    attempt = claimed(records, "a")
    records.publish(attempt, 1, [b"1", b"2"])
    subscription = hub.subscribe("a")
    records.publish(attempt, 3, [b"3"])
    assert data_of(subscription, 3) == [b"1", b"2", b"3"]
    assert silent(subscription)


def test_who_follows_a_waiting_task_is_told_of_its_start(hub, records) -> None:
    accepted(records, id="a")
    watches = [hub.subscribe("a"), hub.subscribe("a")]
    claimed(records, "a")
    assert [event.kind for subscription in watches if (event := subscription.get(PATIENCE_S))] == ["started", "started"]


def test_who_goes_on_behind_an_event_sees_what_came_after_it(hub, records) -> None:
    accepted(records, id="a")
    attempt = claimed(records, "a")
    records.publish(attempt, 1, [b"1", b"2"])
    subscription = hub.subscribe("a", records.events("a")[1].id)
    records.succeed(attempt, 200, b"{}")
    assert data_of(subscription, 2) == [b"2", b"200 {}"]
    assert silent(subscription)


def test_who_follows_a_task_that_is_over_has_all_of_it_at_once(hub, records) -> None:
    accepted(records, id="a")
    records.succeed(claimed(records, "a"), 200, b"{}")
    subscription = hub.subscribe("a")
    assert not subscription.empty
    assert data_of(subscription, 1) == [b"200 {}"]
    assert subscription.empty


def test_replay_while_events_come_loses_none_and_doubles_none(hub, records) -> None:
    accepted(records, id="a")
    attempt = claimed(records, "a")

    def publish() -> None:
        for number in range(1, 401):
            records.publish(attempt, number, [b"%d" % number])
        records.succeed(attempt, 200, b"")

    done = outcome_of(publish)
    watches = []
    for turn in range(16):
        # From everywhere: the beginning, and behind what is there already.
        seen = records.events("a")
        place = len(seen) // 2 * (turn % 2)
        watches.append((place, hub.subscribe("a", seen[place - 1].id if place else "0")))
    done()
    for place, subscription in watches:
        # The first event is ``started``, which data_of leaves out.
        expected = [b"%d" % number for number in range(max(place, 1), 401)] + [b"200 "]
        assert data_of(subscription, len(expected)) == expected
        assert subscription.empty


def test_an_event_that_is_pushed_before_those_that_were_missed_waits_for_them() -> None:
    subscription = Subscription("a")
    subscription.hold()
    subscription.put(TaskEvent("3-0", "chunk", b"3"))
    subscription.put(TaskEvent("2-0", "chunk", b"2 again"))
    assert subscription.empty
    subscription.resume([TaskEvent("1-0", "chunk", b"1"), TaskEvent("2-0", "chunk", b"2")])
    subscription.put(TaskEvent("4-0", "chunk", b"4"))
    assert [event.data for _ in range(4) if (event := subscription.get(0)) is not None] == [b"1", b"2", b"3", b"4"]


def test_watches_that_come_and_go_together_leave_nothing(hub, records) -> None:
    accepted(records, id="a")

    def come_and_go() -> None:
        for _ in range(50):
            subscription = hub.subscribe("a")
            assert subscription in hub._subscriptions["a"]
            hub.unsubscribe(subscription)

    for wait in [outcome_of(come_and_go) for _ in range(4)]:
        wait()
    assert "a" not in hub._subscriptions


def test_without_a_broker_nobody_follows(no_broker) -> None:
    client = connect(no_broker)
    hub = EventHub(client, TaskRecords(client, no_broker))
    with pytest.raises(BrokerUnavailable):
        hub.subscribe("a")
    assert not hub._subscriptions
