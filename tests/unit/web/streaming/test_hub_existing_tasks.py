"""Several subscriptions to one task, and subscriptions to tasks that exist already."""

from __future__ import annotations

import pytest

from graycat.broker.client import connect
from graycat.broker.keys import events_key
from graycat.errors import BrokerUnavailable
from graycat.queue.errors import EventsGone
from graycat.queue.events import TaskEvent
from graycat.queue.models import Attempt
from graycat.queue.pages import FIRST_COUNT, MAX_COUNT, EventPages
from graycat.queue.records import TaskRecords
from graycat.web.streaming.hub import EventHub
from graycat.web.streaming.subscription import Subscription
from tests.support.helpers import PATIENCE_S, Valkey, accepted, claimed, outcome_of, reads_of_streams
from tests.unit.web.streaming.test_hub import begin, data_of, listening, silent


@pytest.fixture
def hub(broker: Valkey) -> EventHub:
    return listening(broker)


def testsubscriptions_of_a_task_get_all_events(hub, records) -> None:
    first, attempt = begin(hub, records, "a")
    others = [hub.subscribe("a") for _ in range(3)]
    records.publish(attempt, 1, [b"1", b"2"])
    hub.unsubscribe(others.pop())
    records.publish(attempt, 3, [b"3"])
    for subscription in (first, *others):
        assert data_of(subscription, 3) == [b"1", b"2", b"3"]
        assert silent(subscription)


def test_a_late_subscription_gets_the_earlier_events(hub, records) -> None:
    accepted(records, id="a")
    attempt = claimed(records, "a")
    records.publish(attempt, 1, [b"1", b"2"])
    subscription = hub.subscribe("a")
    records.publish(attempt, 3, [b"3"])
    assert data_of(subscription, 3) == [b"1", b"2", b"3"]
    assert silent(subscription)


def test_a_subscription_to_a_queued_task_gets_its_start(hub, records) -> None:
    accepted(records, id="a")
    subscriptions = [hub.subscribe("a"), hub.subscribe("a")]
    claimed(records, "a")
    assert [event.kind for subscription in subscriptions if (event := subscription.get(PATIENCE_S))] == [
        "started",
        "started",
    ]


def test_a_subscription_after_an_event_gets_only_later_ones(hub, records) -> None:
    accepted(records, id="a")
    attempt = claimed(records, "a")
    records.publish(attempt, 1, [b"1", b"2"])
    subscription = hub.subscribe("a", records.events("a")[1].id)
    records.succeed(attempt, 200, b"{}")
    assert data_of(subscription, 2) == [b"2", b"200 {}"]
    assert silent(subscription)


def test_a_subscription_to_an_ended_task_has_all_events_at_once(hub, records) -> None:
    accepted(records, id="a")
    records.succeed(claimed(records, "a"), 200, b"{}")
    subscription = hub.subscribe("a")
    assert not subscription.empty
    assert data_of(subscription, 1) == [b"200 {}"]
    assert subscription.empty


def test_subscribing_while_events_come_loses_and_repeats_none(hub, records) -> None:
    accepted(records, id="a")
    attempt = claimed(records, "a")

    def publish() -> None:
        for number in range(1, 401):
            records.publish(attempt, number, [b"%d" % number])
        records.succeed(attempt, 200, b"")

    done = outcome_of(publish)
    subscriptions = []
    for turn in range(16):
        # From everywhere: the beginning, and behind what is there already.
        seen = records.events("a")
        index = len(seen) // 2 * (turn % 2)
        subscriptions.append((index, hub.subscribe("a", seen[index - 1].id if index else "0")))
    done()
    for index, subscription in subscriptions:
        # The first event is ``started``, which data_of leaves out.
        expected = [b"%d" % number for number in range(max(index, 1), 401)] + [b"200 "]
        assert data_of(subscription, len(expected)) == expected
        assert subscription.empty


def test_a_pushed_event_waits_for_the_missed_ones() -> None:
    def read_range(*_: object) -> list[TaskEvent]:
        subscription.put(TaskEvent("3-0", "chunk", b"3"))
        subscription.put(TaskEvent("2-0", "chunk", b"2 again"))
        return [TaskEvent("1-0", "chunk", b"1"), TaskEvent("2-0", "chunk", b"2")]

    subscription = Subscription("a", earlier=EventPages(read_range, "a"))
    subscription.read_page()
    subscription.put(TaskEvent("4-0", "chunk", b"4"))
    assert [event.data for _ in range(4) if (event := subscription.get(0)) is not None] == [b"1", b"2", b"3", b"4"]
    assert subscription.empty


def test_concurrent_subscriptions_leave_nothing_behind(hub, records) -> None:
    accepted(records, id="a")

    def come_and_go() -> None:
        for _ in range(50):
            subscription = hub.subscribe("a")
            assert subscription in hub._subscriptions_of("a")["a"]
            hub.unsubscribe(subscription)

    for wait in [outcome_of(come_and_go) for _ in range(4)]:
        wait()
    assert "a" not in hub._subscriptions_of("a")


def test_without_a_broker_subscribing_fails(no_broker) -> None:
    client = connect(no_broker)
    hub = EventHub(client, TaskRecords(client, no_broker))
    with pytest.raises(BrokerUnavailable):
        hub.subscribe("a")
    assert not hub.subscriptions()


def long_task(records, count: int) -> Attempt:
    """Return a task's attempt that has published ``count`` chunks."""
    accepted(records, id="a")
    attempt = claimed(records, "a")
    records.publish(attempt, 1, [b"%d" % number for number in range(1, count + 1)])
    return attempt


def test_a_long_task_is_read_as_its_events_are_taken(hub, records, client) -> None:
    attempt = long_task(records, 2000)
    before = reads_of_streams(client)
    subscription = hub.subscribe("a")
    assert reads_of_streams(client) - before == {"xrange": 1}
    assert subscription._events.qsize() == FIRST_COUNT
    # What is pushed meanwhile waits in the stream, and not here as well.
    records.publish(attempt, 2001, [b"2001", b"2002"])
    records.succeed(attempt, 200, b"")
    assert subscription._backlog._waiting_bytes == 0
    before = reads_of_streams(client)
    assert data_of(subscription, 20) == [b"%d" % number for number in range(1, 21)]
    assert reads_of_streams(client) - before == {"xrange": 1}
    assert subscription._events.qsize() < MAX_COUNT
    assert data_of(subscription, 1983) == [*[b"%d" % number for number in range(21, 2003)], b"200 "]
    assert subscription.empty


def test_pushes_are_taken_again_behind_the_earlier_events(hub, records, client) -> None:
    attempt = long_task(records, 100)
    subscription = hub.subscribe("a")
    assert len(data_of(subscription, 100)) == 100
    assert subscription.get(0) is None
    records.publish(attempt, 101, [b"101"])
    records.succeed(attempt, 200, b"")
    before = reads_of_streams(client)
    assert data_of(subscription, 2) == [b"101", b"200 "]
    assert reads_of_streams(client) == before


def test_earlier_events_that_are_dropped_before_they_are_read_end_the_request(hub, records, client) -> None:
    long_task(records, 100)
    subscription = hub.subscribe("a")
    assert len(data_of(subscription, FIRST_COUNT - 1)) == FIRST_COUNT - 1
    # What nobody has read yet is not caught up with.
    assert not subscription.empty
    client.delete(events_key("a"))
    event = subscription.get(PATIENCE_S)
    assert event is not None
    assert (event.id, event.answer()[0]) == ("", 410)
    assert subscription.empty


def test_a_broker_that_dies_before_the_earlier_events_are_read_ends_the_request(mortal_broker) -> None:
    hub, records = listening(mortal_broker), TaskRecords(mortal_broker.client, mortal_broker.settings)
    long_task(records, 100)
    subscription = hub.subscribe("a")
    assert len(data_of(subscription, FIRST_COUNT - 1)) == FIRST_COUNT - 1
    mortal_broker.kill()
    event = subscription.get(PATIENCE_S)
    assert event is not None
    assert (event.id, event.answer()[0]) == ("", 503)


def test_pushes_that_are_lost_while_the_last_page_is_read_are_read_again() -> None:
    stream = [TaskEvent("1-0", "chunk", b"1")]

    def read_range(_: str, first: str, count: int) -> list[TaskEvent]:
        page = stream[:count]
        if len(stream) == 1:
            # The hub's connection was lost: this one is not pushed. It has a new one, and reads what was missed.
            stream.append(TaskEvent("2-0", "chunk", b"2"))
            assert subscription.note_missed()
        return page

    subscription = Subscription("a", earlier=EventPages(read_range, "a"))
    subscription.read_page()
    assert data_of(subscription, 2) == [b"1", b"2"]
    assert subscription.empty


def test_what_was_missed_is_not_read_for_those_who_still_read_earlier_events(hub, records, client) -> None:
    long_task(records, 2000)
    subscription = hub.subscribe("a")
    before = reads_of_streams(client)
    hub._catch_up()
    assert reads_of_streams(client) == before
    assert subscription._backlog._waiting_bytes == 0
    assert len(data_of(subscription, 2000)) == 2000


def test_missed_events_that_are_gone_end_the_request(hub, records, monkeypatch: pytest.MonkeyPatch) -> None:
    subscription, _ = begin(hub, records, "a")

    def gone(*_: object) -> EventPages:
        raise EventsGone

    monkeypatch.setattr(hub._records, "event_pages", gone)
    hub._catch_up()
    event = subscription.get(PATIENCE_S)
    assert event is not None
    assert (event.id, event.answer()[0]) == ("", 410)
