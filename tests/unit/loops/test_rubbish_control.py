"""The loops of the control worker are given rubbish, and then serve the next good item."""

from __future__ import annotations

import json
import threading
from types import SimpleNamespace
from typing import Any

from graycat.broker import keys
from graycat.broker.quarantine import Quarantine
from graycat.celeryapp import create_celery
from graycat.fleet.workers import WorkerRegistry
from graycat.webhooks.deliveries import Deliveries
from graycat.webhooks.dispatcher import Dispatcher
from graycat.webhooks.sender import WebhookSender
from graycat.webhooks.webhook import Webhook
from graycat.worker import control
from graycat.worker.control import ControlDuties
from tests.support.helpers import PATIENCE_S, eventually, started
from tests.support.hooks import look
from tests.support.loop_cases import Bench, feeds, once


def control_duties(bench: Bench) -> ControlDuties:
    bench.monkeypatch.chdir(bench.tmp_path)
    bench.monkeypatch.setattr(control, "DISPATCH_INTERVAL_S", 0.01)
    bench.monkeypatch.setattr(control, "STEP_INTERVAL_S", 0.01)
    bench.monkeypatch.setattr(control, "REPORT_INTERVAL_S", 0.02)
    # An application of its own: the others share one, which has all queues.
    app = create_celery(bench.broker.settings)
    app.amqp.queues.select(["control"])
    parent: Any = SimpleNamespace(app=app, hostname="control@here", concurrency=1)
    return ControlDuties(parent, alone=True)


@feeds("control")
def test_control(bench: Bench) -> None:
    """A duty that raises: the others are done, and it is done again."""
    duties = control_duties(bench)
    called = threading.Event()
    bench.monkeypatch.setattr(duties._dispatcher, "step", once(UnicodeError("a webhook"), called.set))
    duties.start()
    assert called.wait(PATIENCE_S)
    eventually(lambda: [worker.name for worker in WorkerRegistry(bench.client).workers()] == ["control@here"])
    duties.stop()


@feeds("batch steps")
def test_batch_steps(bench: Bench) -> None:
    duties = control_duties(bench)
    called = threading.Event()
    step = once(KeyError("state"), called.set)
    (duty,) = duties._batch_thread._duties
    duties._batch_thread._duties = [duty._replace(function=step)]
    duties.start()
    assert called.wait(PATIENCE_S)
    duties.stop()


RUBBISH_DELIVERIES = {
    b"no pair": {},
    b"\xff \xff": {},
    b"a task succeeded": {"webhook": "{half", "owner": "tests"},
    b"b succeeded": {"webhook": "[]", "owner": "tests"},
    b"c succeeded": {"webhook": '{"url": 7, "events": [], "secret": ""}', "owner": "tests"},
}


def add_deliveries(bench: Bench) -> str:
    """Add deliveries that are none, and then a good one; return its member."""
    for member, fields in RUBBISH_DELIVERIES.items():
        bench.client.zadd(keys.DELIVERIES, {member: 1})
        if fields:
            bench.client.hset(keys.delivery_key(*member.decode().rsplit(" ", 1)), mapping=fields)
    bench.client.zadd(keys.DELIVERIES, {"of succeeded": 1})
    bench.client.set(keys.delivery_key("of", "succeeded"), "another type")
    hook = Webhook("https://receiver.example/", ("succeeded",)).to_json()
    attempt = started(bench.records, webhook=hook)
    bench.records.succeed(attempt, 200, b"")
    look(bench.records)
    return f"{attempt.task_id} succeeded"


@feeds("dispatcher")
def test_dispatcher(bench: Bench) -> None:
    bench.client.set(keys.DELIVERIES, "another type")
    deliveries = Deliveries(bench.client)
    dispatcher = Dispatcher(bench.client, deliveries, bench.app)
    assert dispatcher.step(deliveries.now_ms()) == 0
    good = add_deliveries(bench)
    dispatcher.step(deliveries.now_ms())
    ids = [json.loads(message)["headers"]["id"] for message in bench.client.lrange("control", 0, -1)]
    assert good in ids
    assert {item.where for item in Quarantine(bench.client).items()} == {"dispatcher"}


@feeds("webhook sender")
def test_webhook_sender(bench: Bench) -> None:
    good = add_deliveries(bench)
    posted: list[str] = []

    def post(target: Any, *_: object) -> int:
        posted.append(target.host)
        return 200

    http: Any = SimpleNamespace(post=post)
    deliveries = Deliveries(bench.client)
    sender = WebhookSender(deliveries, http, bench.broker.settings)
    for member in ("a task succeeded", "b succeeded", "c succeeded", "of succeeded", good):
        task_id, event = member.rsplit(" ", 1)
        sender.deliver(task_id, event)
    assert posted == ["receiver.example"]
    assert deliveries.summarize(good.split(" ")[0])[0]["state"] == "delivered"
    assert {item.where for item in Quarantine(bench.client).items()} == {"webhook sender"}
