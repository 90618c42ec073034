from __future__ import annotations

import os
import signal
import threading
from typing import Any

import gevent
import gevent.socket
import pytest
import redis

from graycat.broker.connections import RawConnection
from graycat.broker.protocol import Broker
from graycat.errors import BrokerUnavailable
from graycat.queue.models import Attempt
from graycat.queue.records import TaskRecords
from graycat.web.streaming import hub as hub_module
from graycat.web.streaming.disconnect import READABLE
from graycat.web.streaming.hub import EventHub
from graycat.web.streaming.subscription import Subscription
from tests.support.helpers import PATIENCE_S, Stopwatch, Valkey, accepted, claimed, eventually

#: Seconds in which an event that must not come would have come.
A_WHILE_S = 0.1


def listening(broker: Valkey) -> EventHub:
    """Return a hub that has subscribed to its channel."""
    hub = EventHub(broker.client, TaskRecords(broker.client, broker.settings))
    hub.start()
    eventually(lambda: broker.client.pubsub_numsub(hub.channels["llm"])[0][1] == 1)
    return hub


@pytest.fixture
def hub(broker: Valkey) -> EventHub:
    return listening(broker)


def begin(hub: EventHub, records: TaskRecords, task_id: str) -> tuple[Subscription, Attempt]:
    """Subscribe to a task, create it as a request would, and claim it as a worker would."""
    subscription = hub.subscribe_new(task_id)
    accepted(records, id=task_id, channel=hub.channel_of(task_id))
    return subscription, claimed(records, task_id)


def data_of(subscription: Subscription, count: int) -> list[bytes]:
    """Return the data of the next events but ``started``."""
    found: list[bytes] = []
    while len(found) < count:
        event = subscription.get(PATIENCE_S)
        assert event is not None, f"only {found} came"
        if event.kind != "started":
            found.append(event.data)
    return found


def silent(subscription: Subscription) -> bool:
    """Return whether no more events come except ``started``, which a hub that has just started may deliver."""
    event = subscription.get(A_WHILE_S)
    return event is None or (event.kind == "started" and silent(subscription))


def test_a_task_s_events_come_in_their_order_each_once(hub, records) -> None:
    subscription, attempt = begin(hub, records, "a")
    for number in range(1, 51):
        records.publish(attempt, 2 * number - 1, [b"%d" % number, b"%d+" % number])
    records.succeed(attempt, 200, b"")
    wanted = [text for number in range(1, 51) for text in (b"%d" % number, b"%d+" % number)]
    assert data_of(subscription, 101) == [*wanted, b"200 "]
    assert silent(subscription)


def test_a_subscription_gets_only_its_own_task_s_events(hub, records) -> None:
    subscriptions = {name: begin(hub, records, name) for name in ("a", "b")}
    for name, (_, attempt) in subscriptions.items():
        records.publish(attempt, 1, [name.encode()])
    for name, (subscription, _) in subscriptions.items():
        assert data_of(subscription, 1) == [name.encode()]
        assert silent(subscription)


def test_an_event_is_there_at_once(hub, records) -> None:
    subscription, attempt = begin(hub, records, "a")
    clock = Stopwatch()
    records.publish(attempt, 1, [b"a"])
    data_of(subscription, 1)
    assert clock.seconds < 1.0


def test_events_from_before_the_hub_listened_are_not_missed(broker: Valkey, records) -> None:
    hub = EventHub(broker.client, records)
    subscription, attempt = begin(hub, records, "a")
    records.publish(attempt, 1, [b"a"])
    hub.start()
    assert data_of(subscription, 1) == [b"a"]
    assert silent(subscription)


def test_events_without_a_subscription_are_dropped(hub, records) -> None:
    subscription, attempt = begin(hub, records, "a")
    other, marker = begin(hub, records, "b")
    hub.unsubscribe(subscription)
    hub.unsubscribe(subscription)
    records.publish(attempt, 1, [b"a"])
    records.publish(marker, 1, [b"b"])
    assert data_of(other, 1) == [b"b"]
    assert silent(subscription)


def test_a_lost_connection_loses_and_repeats_no_event(hub, records, client) -> None:
    subscription, attempt = begin(hub, records, "a")
    for number in range(1, 31):
        if number % 10 == 0:
            client.client_kill_filter(_type="pubsub")
        records.publish(attempt, number, [b"%d" % number])
    assert data_of(subscription, 30) == [b"%d" % number for number in range(1, 31)]
    assert silent(subscription)


def test_a_broker_that_is_killed_and_restarted_loses_and_repeats_no_event(mortal_broker: Valkey) -> None:
    records = TaskRecords(mortal_broker.client, mortal_broker.settings)
    hub = listening(mortal_broker)
    subscription, attempt = begin(hub, records, "a")
    records.publish(attempt, 1, [b"before"])
    assert data_of(subscription, 1) == [b"before"]
    mortal_broker.kill()
    with pytest.raises(BrokerUnavailable):
        records.publish(attempt, 2, [b"meanwhile"])
    mortal_broker.start()
    # Nobody listens yet: the hub comes back a moment later.
    records.publish(attempt, 2, [b"meanwhile"])
    assert data_of(subscription, 1) == [b"meanwhile"]
    eventually(lambda: mortal_broker.client.pubsub_numsub(hub.channels["llm"])[0][1] == 1)
    records.publish(attempt, 3, [b"after"])
    assert data_of(subscription, 1) == [b"after"]
    assert silent(subscription)


def connection_of_hub(broker: Valkey) -> int:
    """Return the broker's number of the connection on which its one hub listens."""
    return eventually(lambda: max((int(c["id"]) for c in broker.client.client_list(_type="pubsub")), default=0))


def test_a_broker_that_has_gone_silent_is_noticed(mortal_broker: Valkey, monkeypatch) -> None:
    monkeypatch.setattr(hub_module, "SILENCE_TIMEOUT_S", 0.1)
    hub = listening(mortal_broker)
    subscription, attempt = begin(hub, TaskRecords(mortal_broker.client, mortal_broker.settings), "a")
    before, pid = connection_of_hub(mortal_broker), mortal_broker.client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    clock = Stopwatch()
    eventually(lambda: clock.seconds > 0.3)
    os.kill(pid, signal.SIGCONT)
    eventually(lambda: connection_of_hub(mortal_broker) > before)
    TaskRecords(mortal_broker.client, mortal_broker.settings).publish(attempt, 1, [b"a"])
    assert data_of(subscription, 1) == [b"a"]


def hub_losses(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what a hub said of its lost connections."""
    return [vars(r)["reason"] for r in caplog.records if r.message == "hub lost its broker connection"]


def test_a_silent_connection_is_shut_down_while_the_broker_is_still_stuck(
    mortal_broker: Valkey, monkeypatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub, records = listening(mortal_broker), TaskRecords(mortal_broker.client, mortal_broker.settings)
    subscription, attempt = begin(hub, records, "a")
    # Behind the second event the hub waits for the third, with its usual patience: only its pinger will be impatient.
    for number in (1, 2):
        records.publish(attempt, number, [b"%d" % number])
        assert data_of(subscription, 1) == [b"%d" % number]
    pid = mortal_broker.client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        monkeypatch.setattr(hub_module, "SILENCE_TIMEOUT_S", 0.1)
        eventually(lambda: hub_losses(caplog))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert hub_losses(caplog)[0] == "ConnectionError"


def test_a_pinger_ends_with_its_connection(mortal_broker: Valkey, monkeypatch) -> None:
    monkeypatch.setattr(hub_module, "SILENCE_TIMEOUT_S", 0.3)
    hub = listening(mortal_broker)

    def pingers() -> list[threading.Thread]:
        # Hubs of other tests live as long as the process, and lose their connections to this test's impatience.
        targets = [(thread, getattr(thread, "_target", None)) for thread in threading.enumerate()]
        return [thread for thread, target in targets if target == hub._ping]

    for _ in range(3):
        number = connection_of_hub(mortal_broker)
        mortal_broker.client.client_kill_filter(_id=number)
        eventually(lambda number=number: connection_of_hub(mortal_broker) > number)  # type: ignore[misc]
    eventually(lambda: len(pingers()) == 1)


def test_a_hub_that_may_not_subscribe_tries_again(mortal_broker: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    records = TaskRecords(mortal_broker.client, mortal_broker.settings)
    mortal_broker.client.execute_command("ACL", "SETUSER", "default", "resetchannels")
    hub = EventHub(mortal_broker.client, records)
    hub.start()
    eventually(lambda: hub_losses(caplog))
    assert hub_losses(caplog)[0] == "ConnectionError"
    subscription = hub.subscribe_new("a")
    accepted(records, id="a")
    records.publish(claimed(records, "a"), 1, [b"a"])
    mortal_broker.client.execute_command("ACL", "SETUSER", "default", "allchannels")
    assert data_of(subscription, 1) == [b"a"]


def test_a_quiet_connection_is_not_taken_for_a_dead_one(mortal_broker: Valkey, monkeypatch) -> None:
    monkeypatch.setattr(hub_module, "SILENCE_TIMEOUT_S", 0.2)
    listening(mortal_broker)
    before, clock = connection_of_hub(mortal_broker), Stopwatch()
    eventually(lambda: clock.seconds > 0.7)
    assert connection_of_hub(mortal_broker) == before


def test_events_that_come_with_the_subscribe_reply_follow_the_missed_ones(
    broker: Valkey, records: TaskRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = EventHub(broker.client, records)
    subscription, attempt = begin(hub, records, "a")
    records.publish(attempt, 1, [b"1", b"2"])

    class Together(RawConnection):
        """Reads the subscription's reply and a chunk in one piece."""

        def read(self, count: int) -> list[Any]:
            eventually(lambda: broker.client.pubsub_numsub(hub.channels["llm"])[0][1] == 1)
            records.publish(attempt, 3, [b"3"])
            return super().read(count + 1)

    def connection_for(client: Broker) -> RawConnection:
        # The hub of the application that all tests share has a client of its own, and may be connecting again.
        if client is broker.client:
            return Together(client)
        return RawConnection(client)

    monkeypatch.setattr(hub_module, "RawConnection", connection_for)
    hub.start()
    assert data_of(subscription, 3) == [b"1", b"2", b"3"]


def test_two_processes_have_two_channels(client, records) -> None:
    assert EventHub(client, records).channels != EventHub(client, records).channels


class Ready:
    """A connection with something to read, which breaks when it is read."""

    def __init__(self, socket: Any, order: list[str]) -> None:
        self.socket = socket
        self._order = order

    def read_nowait(self) -> list[Any]:
        self._order.append("hub")
        raise redis.ConnectionError


def test_of_many_sockets_that_are_ready_the_hub_s_is_read_first(client, records) -> None:
    hub = EventHub(client, records)
    hub.loop.beat()
    order: list[str] = []
    pairs = [gevent.socket.socketpair() for _ in range(41)]
    watchers = [gevent.get_hub().loop.io(ours.fileno(), READABLE) for ours, _ in pairs[1:]]
    for watcher in watchers[:20]:
        watcher.start(order.append, "another")
    connection: Any = Ready(pairs[0][0], order)
    relaying = gevent.spawn(hub._relay, connection)
    gevent.idle()
    for watcher in watchers[20:]:
        watcher.start(order.append, "another")
    for _, theirs in pairs:
        theirs.send(b"x")
    with pytest.raises(redis.ConnectionError):
        relaying.get(timeout=PATIENCE_S)
    assert order[0] == "hub"
    assert "another" in order
    for watcher in watchers:
        watcher.close()
    for ours, theirs in pairs:
        ours.close()
        theirs.close()
