"""A box that lies: as the user that ``graycat acl worker`` makes it reaches for home and the other family's tasks."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import pytest
import redis

from graycat.broker import keys
from graycat.broker.client import connect
from graycat.broker.protocol import Broker
from graycat.broker.quarantine import Quarantine
from graycat.celeryapp import create_celery
from graycat.fleet.reports import WorkerStatus
from graycat.fleet.workers import WorkerRegistry
from graycat.metrics import web as metrics
from graycat.queue import ids
from graycat.queue.messages import MessageFactory
from graycat.queue.records import TaskRecords
from graycat.web.streaming.hub import EventHub
from graycat.webhooks.deliveries import Deliveries
from graycat.webhooks.webhook import Webhook
from graycat.worker.broker_acl import setuser, worker_rules
from tests.support.helpers import PATIENCE_S, Valkey, accepted, changed, claimed, eventually
from tests.support.hooks import SECRET, look

PASSWORD = "a-password-of-the-tests"
#: Of each family, the kinds of workers on a box of its own.
KINDS = {"llm": ["llm", "quick"], "sd": ["sd"]}
OTHER = {"llm": "sd", "sd": "llm"}


@pytest.fixture
def box(broker: Valkey) -> Iterator[Callable[[str], Broker]]:
    """Return how to get the client of a box of a family."""
    users = []
    broker.client.acl_log_reset()

    def as_box(family: str) -> Broker:
        user = f"box-{family}"
        users.append(user)
        broker.client.execute_command(*setuser(user, PASSWORD, worker_rules(user, KINDS[family])).split())
        return connect(changed(broker.settings, redis_url=f"unix://{user}:{PASSWORD}@{broker.settings.broker_socket}"))

    yield as_box
    for user in users:
        broker.client.acl_deluser(user)


@pytest.fixture
def hub(broker: Valkey) -> EventHub:
    """Return a hub that hears what is pushed."""
    hub = EventHub(broker.client, TaskRecords(broker.client, broker.settings))
    hub.start()
    eventually(lambda: broker.client.pubsub_numsub(hub.channels["sd"])[0][1] == 1)
    return hub


def dropped(reason: str) -> float:
    value: float = metrics.PUSHES_DROPPED.labels(reason)._value.get()
    return value


@pytest.mark.parametrize("family", KINDS)
def test_a_forged_result_of_the_other_family_s_task_reaches_nobody(
    broker: Valkey, box: Callable[[str], Broker], hub: EventHub, records: TaskRecords, family: str
) -> None:
    victim = OTHER[family]
    kind = {"llm": "llm.completion", "sd": "sd.txt2img"}[victim]
    task_id = ids.new_task_id(kind)
    subscription = hub.subscribe_new(task_id)
    accepted(records, id=task_id, kind=kind, queue=victim, channel=hub.channel_of(task_id))
    forged = f"{task_id} 99999999999999-0 result 200 forged"

    liar: Any = box(family)
    with pytest.raises(redis.exceptions.NoPermissionError):
        liar.publish(hub.channel_of(task_id), forged)
    before = dropped("forged")
    assert liar.publish(hub.channels[family], forged) == 1
    eventually(lambda: dropped("forged") == before + 1)

    records.succeed(claimed(records, task_id), 200, b"true")
    event = subscription.get(PATIENCE_S)
    while event is not None and not event.terminal:
        event = subscription.get(PATIENCE_S)
    assert event is not None
    assert event.answer() == (200, b"true")


def test_an_event_of_its_own_task_goes_to_web_processes_alone(
    broker: Valkey, box: Callable[[str], Broker], records: TaskRecords
) -> None:
    task_id = accepted(records)
    with broker.client.pubsub() as listener:
        listener.psubscribe("*")
        assert listener.get_message(timeout=PATIENCE_S)["type"] == "psubscribe"
        channels = f"/0.celery.pidbox {keys.web_channel('llm', 'x')} somewhere"
        box("llm").hset(keys.record_key(task_id), "channels", channels)
        # Home ends the task, with the rights that it has.
        records.cancel(task_id)
        message = listener.get_message(timeout=PATIENCE_S)
        assert message["channel"] == keys.web_channel("llm", "x").encode()
        assert listener.get_message(timeout=0.05) is None


def test_nothing_is_signed_and_sent_that_a_box_has_made(
    broker: Valkey, box: Callable[[str], Broker], records: TaskRecords
) -> None:
    hook = Webhook("https://victim.example/", ("succeeded", "failed"), SECRET).to_json()
    theirs = accepted(records, id=ids.new_task_id("sd"), kind="sd.txt2img", queue="sd", webhook=hook)
    liar: Any = box("llm")
    for command in (
        ("ZADD", keys.DELIVERIES, "1", f"{theirs} succeeded"),
        ("HSET", keys.delivery_key(theirs, "succeeded"), "state", "pending"),
        ("HSET", keys.delivery_key("0" * 32, "succeeded"), "state", "pending"),
        ("HSET", keys.hook_key("0" * 32), "webhook", hook),
        ("HGET", keys.hook_key("0" * 32), "webhook"),
        ("ZADD", keys.HOOKS, "1", "0" * 32),
        ("ZADD", keys.changed_key("sd"), "1", theirs),
    ):
        with pytest.raises(redis.exceptions.NoPermissionError):
            liar.execute_command(*command)
    # It notes the other family's task, and one that never was.
    liar.zadd(keys.changed_key("llm"), {theirs: 1, "0" * 32: 1})
    look(records)
    assert not broker.client.exists(keys.DELIVERIES)


def test_of_its_own_task_a_box_can_have_told_only_that_it_has_ended(
    broker: Valkey, box: Callable[[str], Broker], records: TaskRecords
) -> None:
    hook = Webhook("https://caller.example/", ("succeeded",), SECRET).to_json()
    task_id = accepted(records, webhook=hook, metadata='{"order":7}')
    false = Webhook("https://elsewhere.example/", ("succeeded",)).to_json()
    lies = {"webhook": false, "metadata": '{"order":8}', "kind": "sd.txt2img", "submitted_ms": "1"}
    lies |= {"state": "succeeded", "status": "200", "started_ms": "2"}
    liar: Any = box("llm")
    liar.hset(keys.record_key(task_id), mapping=lies)
    liar.zadd(keys.changed_key("llm"), {task_id: 1})
    look(records)
    deliveries = Deliveries(broker.client)
    delivery = deliveries.begin(task_id, "succeeded", deliveries.now_ms())
    assert delivery is not None
    assert delivery.webhook.to_json() == hook
    assert (delivery.fields["metadata"], delivery.fields["kind"], delivery.owner) == (
        '{"order":7}',
        "llm.completion",
        "tests",
    )
    assert delivery.fields["submitted_ms"] != "1"


def test_an_honest_box_has_its_task_s_end_told(
    broker: Valkey, box: Callable[[str], Broker], records: TaskRecords
) -> None:
    hook = Webhook("https://caller.example/", ("started", "succeeded"), SECRET).to_json()
    task_id = accepted(records, webhook=hook)
    elsewhere = TaskRecords(box("llm"), broker.settings)
    elsewhere.succeed(claimed(elsewhere, task_id), 200, b"{}")
    look(records)
    assert broker.client.zcard(keys.DELIVERIES) == 2
    assert broker.client.acl_log() == []


def taken_at_home(broker: Valkey, count: int) -> list[Any]:
    """Return the messages that a worker at home is given of its queue."""
    received: list[Any] = []
    app = create_celery(broker.settings, kind="llm")

    def take(message: Any) -> None:
        received.append(message)
        message.ack()

    with (
        app.connection_for_read() as connection,
        connection.Consumer([app.amqp.queues["llm"]], on_message=take, accept=["json"]),
    ):
        eventually(lambda: drained(connection, received, count))
    return received


def drained(connection: Any, received: list[Any], count: int) -> bool:
    with contextlib.suppress(TimeoutError):
        connection.drain_events(timeout=0.2)
    return len(received) >= count


FALSE_CALL = {"task": "control.fire_schedules", "args": [], "kwargs": {}, "options": {"queue": "control"}}


@pytest.mark.parametrize(
    "lie",
    [
        *({"task": "control.fire_schedules"}, {"task": "control.deliver"}, {"task": "sd.txt2img"}),
        *({"task": "no.such.task", "errbacks": [FALSE_CALL]}, {"task": "llm.x", "id": "x", "chord": FALSE_CALL}),
        *({"id": "x", "callbacks": [FALSE_CALL]}, {"task": "celery.chain"}),
    ],
    ids=str,
)
def test_a_message_that_would_do_more_at_home_than_run_a_task_is_set_aside(
    broker: Valkey, box: Callable[[str], Broker], lie: dict[str, Any]
) -> None:
    good = json.loads(MessageFactory(create_celery(broker.settings)).make("llm.completion", "0" * 32))
    false = good | {"headers": good["headers"] | lie}
    box("llm").lpush("llm", json.dumps(false), json.dumps(good))
    (message,) = taken_at_home(broker, 1)
    assert (message.headers["task"], message.headers["id"]) == ("llm.completion", "0" * 32)
    assert [item.where for item in Quarantine(broker.client).items()] == ["queue llm"]
    assert not broker.client.exists("control")


def test_a_message_that_is_longer_than_any_is_set_aside_unread(broker: Valkey, box: Callable[[str], Broker]) -> None:
    good = json.loads(MessageFactory(create_celery(broker.settings)).make("llm.completion", "0" * 32))
    box("llm").lpush("llm", json.dumps(good | {"more": "x" * 20_000}), json.dumps(good))
    assert len(taken_at_home(broker, 1)) == 1
    (item,) = Quarantine(broker.client).items()
    assert (item.reason, item.size > 20_000) == ("ValueError", True)


def test_a_message_has_no_say_in_when_and_how_its_task_runs(broker: Valkey, box: Callable[[str], Broker]) -> None:
    good = json.loads(MessageFactory(create_celery(broker.settings)).make("llm.completion", "0" * 32))
    good["headers"] |= {"eta": "2099-01-01T00:00:00", "expires": "2020-01-01", "timelimit": [1, 1], "retries": 7}
    good["headers"] |= {"shadow": "\x1b[2J", "argsrepr": "\x1b[2J", "stamps": {"a": "b"}, "origin": "\x1b[2J"}
    good["properties"]["delivery_info"]["routing_key"] = "control"
    box("llm").lpush("llm", json.dumps(good))
    (message,) = taken_at_home(broker, 1)
    assert message.delivery_info["routing_key"] == "llm"
    assert "\x1b" not in str(message.headers)
    assert [message.headers[name] for name in ("eta", "expires", "timelimit", "retries")] == [
        None,
        None,
        [None, None],
        0,
    ]


@pytest.mark.parametrize("family", KINDS)
def test_a_box_writes_into_the_queues_of_its_family_alone(
    broker: Valkey, box: Callable[[str], Broker], family: str
) -> None:
    liar: Any = box(family)
    for queue in (OTHER[family], f"{OTHER[family]}.batch", "control", "control:x"):
        with pytest.raises(redis.exceptions.NoPermissionError):
            liar.lpush(queue, "x")


def test_a_box_reports_of_itself_alone(broker: Valkey, box: Callable[[str], Broker]) -> None:
    liar, fleet = box("llm"), WorkerRegistry(broker.client)
    report = WorkerStatus("llm@box-llm", ("llm",), "e", "ready", consuming=True, slots=1, busy=0, props="")
    WorkerRegistry(liar).report(report)
    false = asdict(report) | {"name": "control@home", "queues": ["llm", "sd", "control"]}
    liar.set(keys.worker_key("llm@box-llm"), json.dumps(false), px=5000)
    assert fleet.workers() == [report]
    for name in ("llm@home", "sd@box-llm", "control@box-llm", "llm@box-sd"):
        with pytest.raises(redis.exceptions.NoPermissionError):
            liar.set(keys.worker_key(name), json.dumps(false))
