from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from queue import Empty
from typing import Any

import pytest
import redis
from celery import Celery
from kombu.asynchronous import Hub

from graycat.broker import transport
from graycat.broker.client import connect
from graycat.broker.quarantine import Quarantine
from graycat.celeryapp import create_celery
from graycat.loops.unexpected import UNEXPECTED
from graycat.settings import Settings
from tests.support.helpers import Valkey, eventually, outcome_of

#: JSON that is nested more deeply than Python reads.
DEEP = b"[" * (sys.getrecursionlimit() + 10)


@pytest.fixture
def app(settings: Settings) -> Celery:
    return create_celery(settings)


@pytest.mark.parametrize("settings", [Settings(), Settings(redis_host="h"), Settings(redis_url="rediss://h")])
def test_every_scheme_of_redis_gets_our_transport(settings: Settings) -> None:
    with create_celery(settings).connection_for_write() as connection:
        assert connection.get_transport_cls() is transport.Transport


def test_a_channel_keeps_its_client(app: Celery) -> None:
    with app.connection_for_write() as connection:
        channel: Any = connection.default_channel
        clients = []
        for _ in range(2):
            with channel.conn_or_acquire() as client:
                clients.append(client)
        assert clients[0] is clients[1]


def test_the_client_that_waits_for_messages_is_another(app: Celery) -> None:
    with app.connection_for_write() as connection:
        channel: Any = connection.default_channel
        assert channel._create_client(asynchronous=True) is not channel._create_client()


def test_a_closed_channel_still_acknowledges(app: Celery, broker: Valkey) -> None:
    connection = app.connection_for_write()
    channel: Any = connection.default_channel
    channel._create_client().hset("unacked", "tag", "message")
    channel.close()
    # A task that outlives its connection ends so; a worker that could not would give up.
    channel.qos.ack("tag")
    assert not broker.client.hexists("unacked", "tag")
    connection.release()


def test_threads_may_use_the_kept_client_at_once(app: Celery, broker: Valkey) -> None:
    with app.connection_for_write() as connection:
        channel: Any = connection.default_channel
        waits = [outcome_of(lambda: [channel._create_client().incr("count") for _ in range(50)]) for _ in range(4)]
        assert sorted(number for wait in waits for number in wait()) == list(range(1, 201))


def test_what_is_sent_arrives(app: Celery, broker: Valkey) -> None:
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        for number in range(2):
            app.send_task("llm.completion", args=["x"], task_id=f"id-{number}", queue="llm", producer=producer)
    ids = [json.loads(message)["headers"]["id"] for message in broker.client.lrange("llm", 0, -1)]
    assert ids == ["id-1", "id-0"]


def test_a_channel_that_closes_puts_nothing_back_that_still_runs(app: Celery, broker: Valkey) -> None:
    connection = app.connection_for_write()
    with app.amqp.Producer(connection) as producer:
        app.send_task("llm.completion", args=[TASK_ID], queue="llm", producer=producer)
    consumer: Any = app.connection_for_read()
    simple = consumer.SimpleQueue("llm")
    simple.get(timeout=5)
    consumer.release()
    assert broker.client.llen("llm") == 0
    assert broker.client.hlen("unacked") == 1
    connection.release()


@pytest.mark.parametrize(("kind", "swept"), [("", 1), ("control", 1), ("llm", 0)])
def test_bindings_of_others_are_swept_at_home(broker: Valkey, kind: str, swept: int) -> None:
    broker.client.zadd("_kombu.binding_deadlines", {"long-gone": 1})
    broker.client.sadd("_kombu.binding.long-gone", "x")
    with create_celery(broker.settings, kind=kind).connection_for_write() as connection:
        channel: Any = connection.default_channel
        assert channel.sweep_bindings() == swept
    assert broker.client.exists("_kombu.binding.long-gone") == 1 - swept


TASK_ID = "0" * 32


def good_message(app: Celery, broker: Valkey) -> dict[str, Any]:
    """Return a message as Celery publishes it, taken from its queue."""
    app.send_task("llm.completion", args=[TASK_ID], task_id=TASK_ID, queue="llm")
    message: dict[str, Any] = json.loads(broker.client.rpop("llm"))
    return message


def without(message: dict[str, Any], part: str) -> str:
    """Return a message that lacks a part."""
    found = json.loads(json.dumps(message))
    found["properties"].pop(part, None)
    found.pop(part, None)
    return json.dumps(found)


#: Things that are no messages, made out of a good one.
RUBBISH = {
    "no json": lambda good: "{half",
    "no text": lambda good: b"\xff\xfe",
    "deep": lambda good: DEEP,
    "a type that kombu cannot make": lambda good: json.dumps({"__type__": [], "__value__": 1}),
    "headers that can be read but not written": lambda good: json.dumps(
        good | {"properties": {}, "headers": {"at": {"__type__": "uuid", "__value__": {"hex": "0" * 32}}}}
    ),
    "a number": lambda good: "7",
    "a list": lambda good: "[]",
    "null": lambda good: "null",
    "no properties": lambda good: without(good, "properties"),
    "no delivery tag": lambda good: without(good, "delivery_tag"),
    "no route": lambda good: without(good, "delivery_info"),
    "a body that is no base64": lambda good: json.dumps(good | {"body": "abcde"}),
    "headers that are none": lambda good: json.dumps(good | {"headers": [1, 2]}),
    "a body of another type": lambda good: json.dumps(good | {"body": 7}),
}


@pytest.mark.parametrize("kind", RUBBISH)
def test_a_message_that_cannot_be_used_is_set_aside_and_the_next_is_delivered(
    app: Celery, broker: Valkey, kind: str
) -> None:
    good = good_message(app, broker)
    rubbish: Any = RUBBISH[kind](good)
    broker.client.lpush("llm", rubbish, json.dumps(good))
    received: list[str] = []

    def take(message: Any) -> None:
        received.append(message.headers["id"])
        message.ack()

    with app.connection_for_read() as connection:
        queue = app.amqp.queues["llm"]
        with connection.Consumer([queue], on_message=take, accept=["json"]):
            while not received:
                connection.drain_events(timeout=5)
    assert received == [TASK_ID]
    (item,) = Quarantine(broker.client).items()
    assert (item.where, broker.client.hlen("unacked")) == ("queue llm", 0)


def test_a_consumer_s_own_fault_does_not_deliver_a_message_for_ever(app: Celery, broker: Valkey) -> None:
    good = good_message(app, broker)
    broker.client.lpush("llm", json.dumps(good), json.dumps(good))
    seen: list[str] = []

    def take(message: Any) -> None:
        seen.append(message.headers["id"])
        if len(seen) == 1:
            raise TypeError("unhashable")
        message.ack()

    with (
        app.connection_for_read() as connection,
        connection.Consumer([app.amqp.queues["llm"]], on_message=take, accept=["json"]),
    ):
        while len(seen) < 2:
            connection.drain_events(timeout=5)
    assert broker.client.hlen("unacked") == 0
    assert [item.reason for item in Quarantine(broker.client).items()] == ["TypeError"]


#: What a message has that kombu puts back.
FORM: dict[str, Any] = {
    "headers": {},
    "properties": {"delivery_tag": "x", "delivery_info": {"exchange": "", "routing_key": "llm"}},
}
SPOILED = {
    "no json": "{half",
    "a number": "7",
    "empty": "[]",
    "null": "null",
    "no text": b"\xff",
    "deep": DEEP,
    "a message that is none": json.dumps([{"headers": 7}, "", "llm"]),
    "an exchange that is none": json.dumps([FORM, {}, "llm"]),
    "a queue that is none": json.dumps([FORM, "", ["llm"]]),
}


@pytest.mark.parametrize("entry", SPOILED.values(), ids=SPOILED)
def test_a_spoiled_entry_among_the_unacknowledged_is_set_aside_and_the_others_come_back(
    app: Celery, broker: Valkey, entry: str | bytes
) -> None:
    good = json.dumps([good_message(app, broker), "llm", "llm"])
    broker.client.hset("unacked", mapping={"spoiled": entry, "good": good})
    broker.client.zadd("unacked_index", {"spoiled": 1, "good": 2})
    with app.connection_for_read() as connection:
        channel: Any = connection.default_channel
        app.amqp.queues["llm"](channel).declare()
        channel.qos.restore_visible(num=10, interval=1)
    assert broker.client.llen("llm") == 1
    assert (broker.client.hlen("unacked"), broker.client.zcard("unacked_index")) == (0, 0)
    (item,) = Quarantine(broker.client).items()
    assert item.where == "unacknowledged messages"


@pytest.mark.parametrize("queue", ["control", "sd", "sd:@sd@home", "llm.quick", "anything"])
def test_an_entry_among_the_unacknowledged_brings_nothing_into_queues_of_others(broker: Valkey, queue: str) -> None:
    broker.client.hset("unacked:llm", "forged", json.dumps([FORM, "", queue]))
    broker.client.zadd("unacked_index:llm", {"forged": 1})
    broker.client.sadd("_kombu.binding.llm", f"llm\x06\x16\x06\x16{queue}")
    broker.client.hset("unacked:llm", "bound", json.dumps([FORM, "llm", "llm"]))
    broker.client.zadd("unacked_index:llm", {"bound": 2})
    with create_celery(broker.settings, kind="llm").connection_for_read() as connection:
        channel: Any = connection.default_channel
        channel.qos.restore_visible(num=10, interval=1)
    assert (broker.client.exists(queue), broker.client.llen("llm")) == (0, 1)
    assert len(Quarantine(broker.client).items()) == 1


def test_one_worker_of_a_kind_puts_back_at_a_time(broker: Valkey) -> None:
    broker.client.hset("unacked:llm", "tag", json.dumps([FORM, "", "llm:a-model"]))
    broker.client.zadd("unacked_index:llm", {"tag": 1})
    broker.client.set("unacked_mutex:llm", "another's", px=10_000)
    with create_celery(broker.settings, kind="llm").connection_for_read() as connection:
        channel: Any = connection.default_channel
        channel.qos.restore_visible(num=10, interval=1)
        assert broker.client.llen("llm:a-model") == 0
        assert broker.client.get("unacked_mutex:llm") == b"another's"
        broker.client.delete("unacked_mutex:llm")
        channel.qos.restore_visible(num=10, interval=1)
    assert json.loads(broker.client.lindex("llm:a-model", 0))["headers"] == {"redelivered": True}
    assert not broker.client.exists("unacked_mutex:llm")


@contextlib.contextmanager
def configured(broker: Valkey, name: str, value: int) -> Iterator[None]:
    """Have the broker refuse writes for the block."""
    broker.client.config_set(name, value)
    try:
        yield
    finally:
        broker.client.config_set(name, 0)


def test_a_full_broker_is_no_reason_to_connect_again(broker: Valkey) -> None:
    broker.client.hset("unacked:llm", "tag", json.dumps([FORM, "", "llm"]))
    broker.client.zadd("unacked_index:llm", {"tag": 1})
    with create_celery(broker.settings, kind="llm").connection_for_read() as connection:
        channel: Any = connection.default_channel
        with configured(broker, "maxmemory", 1):
            channel.qos.restore_visible(num=10, interval=1)
        assert (broker.client.hlen("unacked:llm"), broker.client.llen("llm")) == (1, 0)
        channel.qos.restore_visible(num=10, interval=1)
        assert (broker.client.hlen("unacked:llm"), broker.client.llen("llm")) == (0, 1)


def test_a_connection_that_the_event_loop_cannot_take_is_closed(app: Celery, broker: Valkey) -> None:
    before = len(broker.client.client_list())
    for _ in range(3):
        connection: Any = app.connection_for_read()
        connection.connect()
        with configured(broker, "min-replicas-to-write", 1), pytest.raises(redis.ResponseError, match="NOREPLICAS"):
            connection.transport.register_with_event_loop(connection.connection, Hub())
        # Celery forgets it here: it has no name for a connection that its event loop does not read.
    assert len(broker.client.client_list()) == before


def test_a_worker_with_an_engine_writes_no_bindings(broker: Valkey) -> None:
    app = create_celery(broker.settings, kind="llm")
    with app.connection_for_read() as connection:
        channel: Any = connection.default_channel
        app.amqp.queues["llm"](channel).declare()
        control: Any = app.control
        control.mailbox(connection).Node("llm@box", channel=channel).listen()
    assert broker.client.keys("_kombu*") == []


def test_no_connection_says_what_redis_7_0_does_not_know(app: Celery, broker: Valkey) -> None:
    broker.client.config_resetstat()
    with app.connection_for_read() as connection:
        channel: Any = connection.default_channel
        channel._create_client().ping()
        channel._create_client(asynchronous=True).ping()
    connect(broker.settings).ping()
    assert "cmdstat_client|setinfo" not in broker.client.info("commandstats")


def test_a_key_with_a_queue_s_name_that_is_no_list_is_renamed_and_the_queue_is_taken_from(
    app: Celery, broker: Valkey
) -> None:
    good = json.dumps(good_message(app, broker))
    broker.client.set("llm", "no list")
    received: list[str] = []

    def take(message: Any) -> None:
        received.append(message.headers["id"])
        message.ack()

    with (
        app.connection_for_read() as connection,
        connection.Consumer([app.amqp.queues["llm"]], on_message=take, accept=["json"]),
    ):
        while broker.client.exists("llm"):
            with contextlib.suppress(TimeoutError):
                connection.drain_events(timeout=0.2)
        broker.client.lpush("llm", good)
        while not received:
            connection.drain_events(timeout=5)
    assert broker.client.get("graycat:wrong-type:llm") == b"no list"


def test_a_binding_of_another_type_is_set_aside(app: Celery, broker: Valkey) -> None:
    broker.client.set("_kombu.binding.llm", "no set")
    with app.connection_for_read() as connection:
        app.amqp.queues["llm"](connection.default_channel).declare()
    assert broker.client.type("_kombu.binding.llm") == b"set"


@pytest.mark.parametrize("rubbish", [DEEP, b'{"__type__": "decimal", "__value__": "x"}'], ids=["deep", "no number"])
def test_a_remote_control_message_that_cannot_be_read_is_passed_over(
    app: Celery, broker: Valkey, rubbish: bytes
) -> None:
    replies: list[Any] = [
        [b"message", b"/0.celery.pidbox", rubbish],
        [b"message", b"/0.celery.pidbox", b"{half"],
    ]
    connection: Any = type("Subscription", (), {"parse_response": lambda self: replies.pop(0)})()
    before = UNEXPECTED.labels("remote control")._value.get()
    with app.connection_for_read() as opened:
        channel: Any = opened.default_channel
        for _ in range(2):
            # kombu's event loop goes on behind this error.
            with pytest.raises(Empty):
                channel._receive_one(connection)
    assert UNEXPECTED.labels("remote control")._value.get() == before + 1


def test_the_event_loop_does_not_wait_for_a_subscription_that_is_lost(app: Celery, broker: Valkey) -> None:
    hub = Hub()
    connection: Any = app.connection_for_read()
    connection.connect()
    control: Any = app.control
    control.mailbox(connection).Node("llm@box", channel=connection.default_channel).listen()
    connection.transport.register_with_event_loop(connection.connection, hub)
    # Else the loop would wait for what is to come in the time after the test.
    hub.call_repeatedly(0.05, int)
    turns = hub.create_loop()

    def subscribed() -> bool:
        next(turns)
        return bool(broker.client.pubsub_numpat())

    eventually(subscribed)
    broker.client.client_kill_filter(_type="pubsub")
    # Celery connects again after this.
    with pytest.raises(redis.ConnectionError):
        outcome_of(lambda: [next(turns) for _ in range(1000)])()
    connection.release()
    hub.close()


def test_a_lost_subscription_is_an_error_and_not_a_wait_without_end(app: Celery, broker: Valkey) -> None:
    with app.connection_for_read() as connection:
        channel: Any = connection.default_channel
        subclient = channel.subclient
        subclient.psubscribe("commands")
        assert subclient.parse_response()[0] == b"psubscribe"
        # The broker itself is well, so that redis-py could subscribe again, and wait.
        assert broker.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub") >= 1
        with pytest.raises(redis.ConnectionError):
            outcome_of(subclient.parse_response)()
