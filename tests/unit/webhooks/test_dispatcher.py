from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from celery import Celery

from graycat.broker.client import connect
from graycat.broker.keys import DELIVERIES, receiver_key, sender_key, wrong_type_key
from graycat.errors import BrokerUnavailable
from graycat.queue.records import TaskRecords
from graycat.settings import Settings
from graycat.webhooks.deliveries import BEGIN_TIMEOUT_MS, MAX_PER_HOST, Deliveries
from graycat.webhooks.dispatcher import MAX_QUEUED, Dispatcher
from graycat.webhooks.webhook import Webhook
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey, outcome_of, started
from tests.support.hooks import look
from tests.support.workers import celery_app


@pytest.fixture
def app(broker: Valkey) -> Celery:
    return celery_app(broker.settings.home)


@pytest.fixture
def deliveries(client: BrokerClient) -> Deliveries:
    return Deliveries(client)


@pytest.fixture
def dispatcher(client: BrokerClient, deliveries: Deliveries, app: Celery) -> Dispatcher:
    return Dispatcher(client, deliveries, app)


def ended(records: TaskRecords, number: int = 0, owner: str = "tests") -> str:
    """End a task whose end is to be told to a receiver of its own; return its id."""
    hook = Webhook(f"https://n{number}.example/", ("failed", "succeeded")).to_json()
    attempt = started(records, webhook=hook, owner=owner)
    records.succeed(attempt, 200, b"")
    look(records)
    return attempt.task_id


def messages(client: BrokerClient) -> list[dict[str, Any]]:
    return [json.loads(message) for message in client.lrange("control", 0, -1)]


def test_what_is_due_is_put_on_the_control_queue(records, client, deliveries, dispatcher) -> None:
    task_id = ended(records)
    assert dispatcher.step(deliveries.now_ms()) == 1
    (message,) = messages(client)
    assert message["headers"]["task"] == "control.deliver"
    # Not the task's own id: the sweeper would take the task's message for found.
    assert message["headers"]["id"] == f"{task_id} succeeded"
    assert json.loads(base64.b64decode(message["body"]))[0] == [f"{task_id} succeeded"]


def test_celery_finds_the_message_in_its_queue(records, deliveries, dispatcher, app) -> None:
    task_id = ended(records)
    dispatcher.step(deliveries.now_ms())
    with app.connection_for_read() as connection:
        message = connection.channel().basic_get("control")
        assert message.payload[0] == [f"{task_id} succeeded"]
        message.ack()


def test_what_is_not_due_waits(records, client, deliveries, dispatcher) -> None:
    ended(records)
    assert dispatcher.step(deliveries.now_ms() - 60_000) == 0
    assert messages(client) == []


def test_two_dispatchers_enqueue_a_delivery_once(records, client, deliveries, app) -> None:
    for number in range(8):
        ended(records, number)
    now_ms = deliveries.now_ms()
    waits = [outcome_of(lambda: Dispatcher(client, Deliveries(client), app).step(now_ms)) for _ in range(4)]
    assert sum(wait() for wait in waits) == len(messages(client)) == 8
    assert len({message["headers"]["id"] for message in messages(client)}) == 8


def test_a_message_that_was_lost_is_sent_again(records, client, deliveries, dispatcher) -> None:
    ended(records)
    now_ms = deliveries.now_ms()
    assert dispatcher.step(now_ms) == 1
    client.delete("control")
    assert [dispatcher.step(now_ms + ms) for ms in (0, BEGIN_TIMEOUT_MS - 1, BEGIN_TIMEOUT_MS)] == [0, 0, 1]


def test_only_so_many_wait_in_the_queue(records, client, deliveries, dispatcher) -> None:
    for number in range(MAX_QUEUED + 3):
        ended(records, number, owner=f"owner-{number % 8}")
    now_ms = deliveries.now_ms()
    assert [dispatcher.step(now_ms) for _ in range(2)] == [MAX_QUEUED, 0]
    client.rpop("control")
    assert dispatcher.step(now_ms) == 1


def test_a_receiver_with_many_does_not_hold_up_the_others(records, client, deliveries, dispatcher) -> None:
    for _ in range(MAX_PER_HOST * 3):
        ended(records, 1)
    other = ended(records, 2)
    assert dispatcher.step(deliveries.now_ms()) == MAX_PER_HOST + 1
    assert f"{other} succeeded" in {message["headers"]["id"] for message in messages(client)}


@pytest.mark.parametrize("key", [receiver_key("n1.example"), sender_key("tests")])
def test_a_delivery_is_not_lost_by_what_another_program_has_written_over(
    records, client, deliveries, dispatcher, key: str
) -> None:
    task_id = ended(records, 1)
    client.set(key, "another program's")
    assert dispatcher.step(deliveries.now_ms()) == 1
    assert [message["headers"]["id"] for message in messages(client)] == [f"{task_id} succeeded"]
    assert client.get(wrong_type_key(key)) == b"another program's"


def test_without_a_broker_nothing_is_enqueued(no_broker: Settings) -> None:
    client = connect(no_broker)
    with pytest.raises(BrokerUnavailable):
        Dispatcher(client, Deliveries(client), celery_app(no_broker.home)).step(0)


@pytest.mark.parametrize("member", [b"\xff", b"no-event", b"a b c", b"", b"good succeeded"])
@pytest.mark.parametrize("content", [{"webhook": "{half"}, {"webhook": "7"}, {"webhook": "{}", "owner": b"\xff"}, None])
def test_a_delivery_that_makes_no_sense_keeps_no_other_from_being_sent(
    records, client, deliveries, dispatcher, member: bytes, content: dict[str, Any] | None
) -> None:
    task_id = ended(records)
    client.zadd(DELIVERIES, {member: 1})
    if content is None:
        client.set("graycat:delivery:good:succeeded", "no hash")
    else:
        client.hset("graycat:delivery:good:succeeded", mapping={"state": "pending", **content})
    assert dispatcher.step(deliveries.now_ms()) >= 1
    assert f"{task_id} succeeded" in [message["headers"]["id"] for message in messages(client)]
    dispatcher.step(deliveries.now_ms())
    assert client.zscore(DELIVERIES, member) is None
