"""What a box may make a web process keep: events that come faster than anybody reads them."""

from __future__ import annotations

import json

import pytest

from graycat.metrics import web as metrics
from graycat.queue.events import TaskEvent
from graycat.queue.pages import EventPages
from graycat.queue.records import TaskRecords
from graycat.web.streaming import backlog
from graycat.web.streaming import hub as hub_module
from graycat.web.streaming.backlog import EVENT_BYTES, FamilyBacklog
from graycat.web.streaming.hub import EventHub
from graycat.web.streaming.subscription import Subscription
from tests.support.helpers import PATIENCE_S, Valkey, accepted, claimed, eventually

KIB = 1024


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MAX_WAITING_BYTES", 100 * KIB)
    monkeypatch.setattr(backlog, "MAX_FAMILY_BYTES", 300 * KIB)
    monkeypatch.setattr(backlog, "FAIR_BYTES", 20 * KIB)


def floods() -> float:
    value: float = metrics.PUSHES_DROPPED.labels("flood")._value.get()
    return value


def push(subscription: Subscription, count: int, size: int = 10 * KIB, first: int = 1) -> None:
    for number in range(first, first + count):
        subscription.put(TaskEvent(f"1-{number}", "chunk", b"x" * size))


def next_of(subscription: Subscription) -> str:
    """Return what the next event is."""
    event = subscription.get(PATIENCE_S)
    assert event is not None
    if event.kind != "error":
        return event.kind
    status, body = event.answer()
    return f"{status} {json.loads(body)['error']['type']}"


def read(subscription: Subscription) -> list[str]:
    """Return what the events are that wait."""
    found = []
    while not subscription.empty:
        found.append(next_of(subscription))
    return found


def test_who_is_pushed_more_than_any_engine_makes_fails_and_keeps_nothing() -> None:
    family, before = FamilyBacklog(), floods()
    subscription = Subscription("a", family=family)
    push(subscription, 1000)
    assert read(subscription) == ["502 engine_nonsense"]
    push(subscription, 1000, first=2000)
    assert (subscription.empty, family.waiting_bytes, floods()) == (True, 0, before + 1)


def test_events_without_data_take_room_as_well() -> None:
    subscription = Subscription("a")
    push(subscription, 100 * KIB // EVENT_BYTES + 2, size=0)
    assert read(subscription) == ["502 engine_nonsense"]


def test_what_is_read_makes_room() -> None:
    family = FamilyBacklog()
    subscription = Subscription("a", family=family)
    for round_number in range(20):
        push(subscription, 9, first=round_number * 10 + 1)
        assert read(subscription) == ["chunk"] * 9
    assert family.waiting_bytes == 0


def test_one_event_has_room_however_long_it_is() -> None:
    subscription = Subscription("a")
    push(subscription, 1, size=400 * KIB)
    assert read(subscription) == ["chunk"]


def test_if_a_family_has_too_much_those_go_that_have_much() -> None:
    family = FamilyBacklog()
    large = [Subscription(f"large {number}", family=family) for number in range(4)]
    for subscription in large:
        push(subscription, 7)
    small = [Subscription(f"small {number}", family=family) for number in range(3)]
    for subscription in small:
        push(subscription, 1)
    assert family.waiting_bytes > backlog.MAX_FAMILY_BYTES
    other = Subscription("other", family=FamilyBacklog())
    push(other, 8)
    push(large[0], 1, first=100)
    assert [read(subscription) for subscription in large] == [["502 engine_nonsense"], *[["chunk"] * 7] * 3]
    assert [read(subscription) for subscription in small] == [["chunk"]] * 3
    assert read(other) == ["chunk"] * 8


def test_what_comes_while_the_last_older_events_are_read_is_bounded() -> None:
    older = [TaskEvent(f"0-{number}", "chunk", b"x" * 10 * KIB) for number in range(1, 11)]
    family = FamilyBacklog()

    def subscribe(name: str, pushed: int) -> Subscription:
        def read_range(*_: object) -> list[TaskEvent]:
            push(subscription, pushed)
            return older

        subscription = Subscription(name, "0", family, EventPages(read_range, name))
        subscription.read_page()
        return subscription

    good = subscribe("good", 5)
    assert read(subscribe("flooded", 1000)) == ["502 engine_nonsense"]
    push(good, 4, first=6)
    assert read(good) == ["chunk"] * (10 + 9)
    assert family.waiting_bytes == 0


def test_a_request_that_ends_takes_nothing_with_it(broker: Valkey, records: TaskRecords) -> None:
    hub = EventHub(broker.client, records)
    subscription = hub.subscribe_new("a")
    family = hub._backlogs[hub.channel_of("a")]
    push(subscription, 3)
    assert family.waiting_bytes == 3 * (10 * KIB + EVENT_BYTES)
    hub.unsubscribe(subscription)
    # The hub may have found it before that.
    push(subscription, 3, first=4)
    assert family.waiting_bytes == 0


def test_a_push_longer_than_any_answer_is_dropped_and_the_next_one_comes(
    broker: Valkey, records: TaskRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "MAX_PUSH_BYTES", 10 * KIB)
    hub = EventHub(broker.client, records)
    hub.start()
    channel = hub.channel_of("a")
    eventually(lambda: broker.client.pubsub_numsub(channel)[0][1] == 1)
    subscription, before = hub.subscribe_new("a"), floods()
    accepted(records, id="a", channel=channel)
    attempt = claimed(records, "a")
    broker.client.publish(channel, b"a 1-1 chunk " + b"x" * 10 * KIB)
    records.publish(attempt, 1, [b"after"])
    event = subscription.get(PATIENCE_S)
    while event is not None and event.kind != "chunk":
        event = subscription.get(PATIENCE_S)
    assert event is not None
    assert (event.data, floods()) == (b"after", before + 1)
