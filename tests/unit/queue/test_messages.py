from __future__ import annotations

import base64
import json
import threading
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from kombu import Consumer, Queue

from graycat.celeryapp import create_celery
from graycat.queue import ids, kinds
from graycat.queue.kinds import DELIVER, Kind
from graycat.queue.messages import MessageFactory
from tests.support.helpers import PATIENCE_S, Valkey, outcome_of

KINDS = pytest.mark.parametrize("kind", [*kinds.KINDS.values(), DELIVER], ids=lambda kind: kind.name)


@pytest.fixture
def app(broker: Valkey) -> Celery:
    return create_celery(broker.settings)


def celery_s_own(app: Celery, broker: Valkey, kind: Kind, task_id: str) -> dict[str, Any]:
    """Return the message that Celery itself leaves in a Valkey queue."""
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        options: dict[str, Any] = {"queue": kind.queue, "producer": producer, "ignore_result": True}
        app.send_task(kind.name, args=[task_id], task_id=task_id, **options)
    message: dict[str, Any] = json.loads(broker.client.rpop(kind.queue))
    return message


@KINDS
def test_a_message_is_what_celery_itself_would_publish(app: Celery, broker: Valkey, kind: Kind) -> None:
    task_id = uuid4().hex
    theirs = celery_s_own(app, broker, kind, task_id)
    ours = json.loads(MessageFactory(app, [kind]).make(kind.name, task_id))
    assert base64.b64decode(ours.pop("body")) == base64.b64decode(theirs.pop("body"))
    assert ours["properties"].pop("delivery_tag") != theirs["properties"].pop("delivery_tag")
    assert ours == theirs


def test_a_message_of_a_kind_that_a_newer_version_has_is_celery_s_own_too(app: Celery, broker: Valkey) -> None:
    task_id = uuid4().hex
    kind = Kind('llm."new"', "llm", "")
    theirs = celery_s_own(app, broker, kind, task_id)
    ours = json.loads(MessageFactory(app).make(kind.name, task_id, kind.queue))
    assert ours["headers"] == theirs["headers"]
    assert ours["properties"]["delivery_info"] == theirs["properties"]["delivery_info"]


def test_every_message_has_a_delivery_tag_of_its_own(app: Celery) -> None:
    # kombu keeps unacknowledged messages by it: two alike, and one is lost.
    factory = MessageFactory(app)
    tags = {json.loads(factory.make("llm.completion", "x"))["properties"]["delivery_tag"] for _ in range(100)}
    assert len(tags) == 100


@KINDS
def test_kombu_reads_a_message_from_the_kind_s_queue(app: Celery, broker: Valkey, kind: Kind) -> None:
    task_id = f"{uuid4().hex} succeeded" if kind is DELIVER else ids.new_task_id(kind.name)
    broker.client.lpush(kind.queue, MessageFactory(app, [kind]).make(kind.name, task_id))
    received: list[Any] = []

    def take(body: Any, message: Any) -> None:
        received.append((body, message.headers))
        message.ack()

    queue: Queue = app.amqp.queues[kind.queue]
    with app.connection_for_read() as connection, Consumer(connection, [queue], callbacks=[take]):
        connection.drain_events(timeout=PATIENCE_S)
    ((body, headers),) = received
    assert body[:2] == [[task_id], {}]
    assert (headers["id"], headers["task"], headers["ignore_result"]) == (task_id, kind.name, True)
    assert broker.client.hlen("unacked") == 0


def test_a_message_carries_nothing_but_the_task_s_id(app: Celery) -> None:
    task_id = uuid4().hex
    message = json.loads(MessageFactory(app).make("llm.completion", task_id))
    assert json.loads(base64.b64decode(message["body"]))[:2] == [[task_id], {}]
    assert message["headers"]["argsrepr"] == f"['{task_id}']"


def test_making_messages_needs_no_broker(no_broker) -> None:
    assert MessageFactory(create_celery(no_broker)).make("llm.tokenize", "x")


def test_factories_that_are_made_at_once_do_not_disturb_each_other(app: Celery, monkeypatch) -> None:
    published, may_go_on = threading.Event(), threading.Event()
    send_task = app.send_task

    def send_and_stop(*args: Any, **options: Any) -> None:
        send_task(*args, **options)
        if not published.is_set():
            published.set()
            assert may_go_on.wait(PATIENCE_S)

    monkeypatch.setattr(app, "send_task", send_and_stop)
    first = outcome_of(lambda: MessageFactory(app, [DELIVER]))
    assert published.wait(PATIENCE_S)
    is_done = threading.Event()

    def make_another() -> MessageFactory:
        factory = MessageFactory(app, [DELIVER])
        is_done.set()
        return factory

    second = outcome_of(make_another)
    # It waits for the first one. If it did not, it would be done long before this.
    assert not is_done.wait(1)
    may_go_on.set()
    for wait in (first, second):
        assert wait()
