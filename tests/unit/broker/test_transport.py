from __future__ import annotations

import json
from typing import Any

import pytest
from celery import Celery

from graycat.broker import transport
from graycat.celeryapp import create_celery
from graycat.settings import Settings
from tests.support.helpers import Valkey, outcome_of


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
        producer.publish({}, routing_key="llm", exchange="")
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
