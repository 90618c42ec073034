"""A hub goes on whatever comes: every request of its process waits for it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

from graycat.loops.threads import stuck_loops
from graycat.loops.unexpected import UNEXPECTED
from graycat.queue.records import TaskRecords
from graycat.status.snapshot import SnapshotReader
from graycat.web.streaming import hub as hub_module
from graycat.web.streaming.hub import EventHub
from graycat.web.streaming.subscription import Subscription
from tests.support.helpers import PATIENCE_S, Valkey, accepted, claimed, eventually


@pytest.fixture
def hub(broker: Valkey) -> EventHub:
    """Return a hub that hears what is pushed."""
    hub = EventHub(broker.client, TaskRecords(broker.client, broker.settings))
    hub.start()
    eventually(lambda: broker.client.pubsub_numsub(hub.channels["llm"])[0][1] == 1)
    return hub


def next_chunk(subscription: Subscription) -> bytes:
    while True:
        event = subscription.get(PATIENCE_S)
        assert event is not None
        if event.kind == "chunk":
            return event.data


def count() -> float:
    value: float = UNEXPECTED.labels("hub")._value.get()
    return value


@pytest.mark.parametrize(
    "rubbish",
    [
        b"garbage",
        b"",
        b"a b",
        b"a b c",
        b"a 1-1 chunk",
        b"a x-y chunk data",
        b"a - chunk data",
        b"\xff \xff \xff \xff",
        b"\0",
    ],
)
def test_a_push_that_is_no_event_is_counted_and_the_next_one_comes(hub, records, broker: Valkey, rubbish) -> None:
    subscription = hub.subscribe_new("a")
    accepted(records, id="a", channel=hub.channel_of("a"))
    attempt = claimed(records, "a")
    before = count()
    broker.client.publish(hub.channel_of("a"), rubbish)
    eventually(lambda: count() > before)
    records.publish(attempt, 1, [b"after"])
    assert next_chunk(subscription) == b"after"


@pytest.mark.parametrize(
    "error",
    [redis.ResponseError("BUSY Redis is busy running a script"), ValueError("rubbish"), KeyError("kind")],
    ids=repr,
)
def test_an_error_while_it_catches_up_costs_no_other_request_its_events(
    records, broker: Valkey, monkeypatch, error: Exception
) -> None:
    hub = EventHub(broker.client, TaskRecords(broker.client, broker.settings))
    spoiled, good = hub.subscribe_new("spoiled"), hub.subscribe_new("good")
    accepted(records, id="good", channel=hub.channel_of("good"))
    records.publish(claimed(records, "good"), 1, [b"missed"])
    fails = [True]
    read = hub._records.events

    def events(task_id: str, after: str = "0") -> Any:
        if task_id == "spoiled" and fails:
            fails.clear()
            raise error
        return read(task_id, after=after)

    monkeypatch.setattr(hub._records, "events", events)
    hub.start()
    assert next_chunk(good) == b"missed"
    assert spoiled.empty


def test_a_stream_with_an_entry_that_is_no_event_stops_no_other(records, broker: Valkey) -> None:
    hub = EventHub(broker.client, TaskRecords(broker.client, broker.settings))
    spoiled, good = hub.subscribe_new("spoiled"), hub.subscribe_new("good")
    broker.client.xadd("graycat:events:spoiled", {"no": "event"})
    broker.client.set("graycat:events:other", "no stream")
    other = hub.subscribe_new("other")
    accepted(records, id="good", channel=hub.channel_of("good"))
    records.publish(claimed(records, "good"), 1, [b"missed"])
    hub.start()
    assert next_chunk(good) == b"missed"
    # An event of no kind, which readers pass over.
    ignored = spoiled.get(PATIENCE_S)
    assert ignored is not None
    assert ignored.kind == ""
    assert (spoiled.empty, other.empty) == (True, True)


def test_who_waits_for_a_task_that_the_broker_has_lost_is_told(mortal_broker: Valkey, monkeypatch) -> None:
    monkeypatch.setattr(hub_module, "RECONNECT_DELAY_S", 0.02)
    records = TaskRecords(mortal_broker.client, mortal_broker.settings)
    hub = EventHub(mortal_broker.client, records)
    hub.start()
    subscription = hub.subscribe_new("a")
    accepted(records, id="a", channel=hub.channel_of("a"))
    subscription.created = True
    # One that is about to be created is not lost.
    new = hub.subscribe_new("new")
    mortal_broker.client.flushall()
    mortal_broker.kill()
    mortal_broker.start()
    event = subscription.get(PATIENCE_S)
    while event is not None and event.kind != "error":
        event = subscription.get(PATIENCE_S)
    assert event is not None
    status, body = event.answer()
    assert (status, json.loads(body)["error"]["type"]) == (503, "broker_data_lost")
    assert new.empty
    (failure,) = eventually(lambda: SnapshotReader(mortal_broker.settings).read().failures)
    assert (failure.task_id, failure.state, failure.type) == ("a", "lost", "broker_data_lost")


def test_a_hub_without_a_broker_is_stuck_after_a_while(no_broker) -> None:
    from graycat.broker.client import connect

    client = connect(no_broker)
    hub = EventHub(client, TaskRecords(client, no_broker))
    hub.loop.stuck_after_s = 0.1
    hub.start()
    assert "hub" not in stuck_loops()
    eventually(lambda: "hub" in stuck_loops())
    hub.stop()


def test_a_hub_whose_pings_have_ended_connects_again_when_it_hears_nothing(hub, broker: Valkey, monkeypatch) -> None:
    pings: list[int] = []
    monkeypatch.setattr(hub, "_ping", lambda _: pings.append(1))
    monkeypatch.setattr(hub_module, "SILENCE_TIMEOUT_S", 0.1)
    monkeypatch.setattr(hub_module, "RECONNECT_DELAY_S", 0.0)
    broker.client.client_kill_filter(_type="pubsub")
    eventually(lambda: len(pings) > 2)


def test_a_hub_whose_thread_ends_runs_again(hub, records, broker: Valkey) -> None:
    def end(_: object) -> None:
        del hub._handle_messages
        raise SystemExit

    hub._handle_messages = end
    subscription = hub.subscribe_new("a")
    accepted(records, id="a", channel=hub.channel_of("a"))
    records.publish(claimed(records, "a"), 1, [b"after"])
    assert next_chunk(subscription) == b"after"
