from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import signals
from celery.worker import state

from graycat.broker import keys
from graycat.broker.client import now_ms
from graycat.broker.scripts import digest, list_texts
from graycat.celeryapp import create_celery
from graycat.errors import SettingsError
from graycat.fleet.reports import WorkerStatus
from graycat.fleet.workers import WorkerRegistry, select_serving
from graycat.queue.records import TaskRecords
from graycat.settings import Settings
from graycat.usage.amounts import day_of
from graycat.webhooks.webhook import Webhook
from graycat.worker import control
from graycat.worker.control import ControlStep, HeartbeatStep
from graycat.worker.heartbeat import LOOP_STUCK_AFTER_S
from graycat.worker.runtime import process
from tests.support.helpers import Valkey, accepted, changed, eventually, started


def celery_worker(settings: Settings, queues: str = "control") -> Any:
    """Return as much of a Celery worker as the steps touch."""
    app = create_celery(settings)
    app.amqp.queues.select(queues.split(","))
    return SimpleNamespace(app=app, hostname="control@here", concurrency=16, steps=[], timer=Timer())


class Timer:
    """As much of a consumer's timer as a step touches."""

    def __init__(self) -> None:
        self.cancelled = False

    def call_repeatedly(self, every_s: float, beat: Callable[[], None]) -> Timer:
        assert 0 < every_s < LOOP_STUCK_AFTER_S
        self.beat = beat
        return self

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture
def running(broker: Valkey, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[Callable[..., Any]]:
    """Return how to start a control worker's step; it is shut down behind the test."""
    before = signals.worker_shutdown.receivers
    signals.worker_shutdown.receivers = []
    # It is one for the process, and other modules' tests leave it beating.
    process.heartbeat.stop()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(control, "DISPATCH_INTERVAL_S", 0.01)
    monkeypatch.setattr(control, "REPORT_INTERVAL_S", 0.02)

    def start(queues: str = "control", **changes: Any) -> Any:
        worker = celery_worker(changed(broker.settings, **changes), queues)
        ControlStep(worker).start(worker)
        return worker

    yield start
    signals.worker_shutdown.send(sender=None)
    signals.worker_shutdown.receivers = before
    process.heartbeat.stop()


@pytest.mark.parametrize(
    ("queues", "steps"),
    [
        ("control", (True, True)),
        ("llm,llm.batch", (False, False)),
        ("sd", (False, False)),
        ("llm,control", (True, False)),
    ],
)
def test_only_a_worker_of_the_control_queue_has_the_steps(queues: str, steps: tuple[bool, bool]) -> None:
    worker = celery_worker(Settings(), queues)
    assert (ControlStep(worker).include_if(worker), HeartbeatStep(worker).include_if(worker)) == steps


def report_of(broker: Valkey, wanted: Callable[[WorkerStatus], bool]) -> WorkerStatus:
    def look() -> WorkerStatus | None:
        return next((status for status in WorkerRegistry(broker.client).workers() if wanted(status)), None)

    found = eventually(look)
    assert found is not None
    return found


def test_a_control_worker_is_in_the_fleet_while_its_main_loop_runs(broker: Valkey, running) -> None:
    running()
    status = report_of(broker, lambda status: True)
    assert status == WorkerStatus("control@here", ("control",), "", "ready", False, 16, 0, "")
    process.heartbeat.beat()
    report_of(broker, lambda status: status.consuming)
    assert select_serving(WorkerRegistry(broker.client).workers(), "control")
    process.heartbeat.seen_at -= LOOP_STUCK_AFTER_S
    report_of(broker, lambda status: not status.consuming)
    signals.worker_shutdown.send(sender=None)
    assert WorkerRegistry(broker.client).workers() == []


def test_the_heartbeat_beats_until_the_consumer_stops() -> None:
    worker = celery_worker(Settings())
    step = HeartbeatStep(worker)
    step.start(worker)
    assert not process.heartbeat.alive
    worker.timer.beat()
    assert process.heartbeat.alive
    step.stop(worker)
    assert (process.heartbeat.alive, worker.timer.cancelled) == (False, True)


def test_what_is_due_is_enqueued(broker: Valkey, records: TaskRecords, running) -> None:
    attempt = started(records, webhook=Webhook("https://a.example/", ("succeeded",)).to_json())
    running()
    records.succeed(attempt, 200, b"")
    eventually(lambda: broker.client.llen("control") == 1)


def test_what_ended_tasks_have_used_is_counted(broker: Valkey, records: TaskRecords, running, monkeypatch) -> None:
    monkeypatch.setattr(control, "USAGE_INTERVAL_S", 0.02)
    attempt = started(records, owner="game")
    running()
    records.succeed(attempt, 200, b"")
    day = keys.usage_key(day_of(now_ms(broker.client)).isoformat())
    eventually(lambda: broker.client.hget(day, "game llm requests") == b"1")


def test_what_ended_tasks_held_is_taken_back_and_accounts_are_healed(
    broker: Valkey, records: TaskRecords, running, monkeypatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(control, "SETTLE_INTERVAL_S", 0.02)
    monkeypatch.setattr(control, "RECOUNT_INTERVAL_S", 0.02)
    records.cancel(accepted(records, owner="gone"))
    accepted(records, owner="stays")
    broker.client.hset(keys.STORED, "nobody", 7)
    running()
    eventually(lambda: set(broker.client.hkeys(keys.STORED)) == {b"*", b"stays", b"*looked_ms", b"*full"})
    # It is said behind that.
    eventually(lambda: "accounts of stored bytes were wrong" in caplog.text)


def test_messages_that_are_held_are_not_delivered_again(broker: Valkey, running, monkeypatch) -> None:
    request: Any = SimpleNamespace(acknowledged=False, message=SimpleNamespace(delivery_tag="held"))
    monkeypatch.setattr(state, "reserved_requests", [request])
    broker.client.zadd("unacked_index", {"held": 1})
    running(lease_s=0.1)
    eventually(lambda: time.time() - (broker.client.zscore("unacked_index", "held") or 0) < 5)


def test_without_a_worker_with_an_engine_tasks_expire_and_webhooks_are_enqueued(broker: Valkey, running) -> None:
    records = TaskRecords(broker.client, changed(broker.settings, queue_ttl_s=0.05))
    task_id = accepted(records, webhook=Webhook("https://a.example/", ("expired",)).to_json())
    running(lease_s=0.05)
    eventually(lambda: records.get(task_id)["state"] == "expired")
    message = eventually(lambda: broker.client.lindex("control", 0))
    assert json.loads(message)["headers"]["id"] == f"{task_id} expired"


def test_a_worker_with_an_engine_too_leaves_the_maintenance_to_worker_maintenance(broker: Valkey, running) -> None:
    records = TaskRecords(broker.client, broker.settings)
    attempt = started(records, webhook=Webhook("https://a.example/", ("succeeded",)).to_json())
    running("llm,control")
    records.succeed(attempt, 200, b"")
    eventually(lambda: broker.client.llen("control") == 1)
    assert WorkerRegistry(broker.client).workers() == []


def test_a_list_of_receivers_that_makes_no_sense_stops_the_start(running) -> None:
    with pytest.raises(SettingsError, match="GRAYCAT_WEBHOOK_ALLOW"):
        running(webhook_allow="http://a.lan/")


@pytest.mark.parametrize("key", ["", "k" * 16])
def test_with_a_broker_elsewhere_a_key_of_this_machine_only_is_warned_of(
    broker: Valkey, running, caplog, key: str
) -> None:
    caplog.set_level(logging.WARNING)
    running(redis_url=broker.settings.broker_url, webhook_key=key)
    warned = [record for record in caplog.records if "GRAYCAT_WEBHOOK_KEY" in record.getMessage()]
    assert bool(warned) is not bool(key)


def test_a_control_worker_that_left_its_queue_says_so(broker: Valkey, running) -> None:
    worker = running()
    process.heartbeat.beat()
    report_of(broker, lambda status: status.consuming)
    # As Celery's cancel_consumer does.
    worker.app.amqp.queues.deselect("control")
    status = report_of(broker, lambda status: not status.consuming)
    assert (status.left, status.queues, process.heartbeat.alive) == (("control",), ("control",), True)


def test_scripts_that_the_broker_has_lost_are_loaded_again(running: Any, broker: Valkey) -> None:
    running()
    names = [digest(text) for text in list_texts()]
    eventually(lambda: all(broker.client.script_exists(*names)))
    broker.client.script_flush()
    eventually(lambda: all(broker.client.script_exists(*names)))
