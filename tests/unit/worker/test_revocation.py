from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from graycat.engines.client import Call, StopReason
from graycat.metrics.worker import TASKS
from graycat.queue.ids import new_task_id
from graycat.worker.revocation import revoke
from graycat.worker.runtime import process
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey, accepted, kinds
from tests.support.workers import Worker, worker_on


@pytest.fixture
def worker(broker: Valkey, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """Yield a text worker whose records the process knows."""
    with worker_on(broker, {}) as made:
        monkeypatch.setattr(process, "records", made.records)
        monkeypatch.setattr(process, "webhook_sender", None)
        yield made


class FakeSender:
    """Gives up one delivery, once."""

    def __init__(self) -> None:
        self.waiting = [("t1", "failed")]

    def give_up(self, task_id: str, event: str) -> bool:
        if (task_id, event) not in self.waiting:
            return False
        self.waiting.remove((task_id, event))
        return True


@pytest.fixture
def control(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """Return the worker as one that is a control worker, without an engine."""
    sender: Any = FakeSender()
    monkeypatch.setattr(process, "engine", None)
    monkeypatch.setattr(process, "webhook_sender", sender)
    return worker


def outcome(task_id: str, *, terminate: bool = False) -> str:
    """Return what a revoke of one task replies."""
    return revoke([task_id], terminate=terminate)["ok"].removeprefix(f"{task_id}: ")


def count_cancelled() -> float:
    """Return how many completions this process has counted as cancelled."""
    value = TASKS.labels("llm.completion", "cancelled")._value.get()
    return float(value)


def queued_ids(client: BrokerClient, queue: str = "llm") -> list[str]:
    return [json.loads(message)["headers"]["id"] for message in client.lrange(queue, 0, -1)]


@pytest.mark.parametrize("terminate", [False, True])
def test_a_queued_task_is_cancelled_and_its_owner_s_next_one_takes_the_turn(
    worker: Worker, client: BrokerClient, terminate: bool
) -> None:
    first, second, third = worker.accept(), worker.accept(), worker.accept()
    assert queued_ids(client) == [first]
    before = count_cancelled()
    assert outcome(first, terminate=terminate) == "cancelled"
    assert count_cancelled() == before + 1
    assert worker.ended(first) == ("cancelled", "499")
    assert kinds(worker.records, first) == ["cancelled"]
    assert queued_ids(client) == [second, first]
    # The message that is left is of a task that has ended.
    assert worker.records.claim(first, "llm@here") == "finished"
    assert worker.records.get(third)["state"] == "queued"


def test_a_parked_task_is_cancelled_before_it_has_a_message(worker: Worker, client: BrokerClient) -> None:
    first, parked, last = worker.accept(), worker.accept(), worker.accept()
    assert outcome(parked) == "cancelled"
    worker.records.cancel(first)
    assert queued_ids(client) == [last, first]
    assert client.get("graycat:asides:llm") == b"0"


def test_a_running_task_goes_on_unless_it_is_terminated(worker: Worker) -> None:
    attempt, call = worker.claim(), Call()
    with worker.runtime.running.track(attempt, call):
        assert outcome(attempt.task_id) == "running, goes on"
        assert call.stopped is None
        assert outcome(attempt.task_id, terminate=True) == "running, asked to stop"
        assert call.stopped == StopReason.CANCELLED
    assert worker.records.get(attempt.task_id)["cancel"] == "cancel"


def test_another_worker_s_task_is_marked(control: Worker) -> None:
    attempt = control.claim()
    assert outcome(attempt.task_id, terminate=True) == "running, asked to stop"
    assert control.records.get(attempt.task_id)["cancel"] == "cancel"


def test_a_task_that_has_ended_stays_as_it_is(worker: Worker) -> None:
    attempt = worker.claim()
    assert worker.records.succeed(attempt, 200, b"{}")
    for terminate in (False, True):
        assert outcome(attempt.task_id, terminate=terminate) == "succeeded"
    assert worker.ended(attempt.task_id) == ("succeeded", "200")


def test_a_second_revoke_finds_the_task_ended(worker: Worker) -> None:
    task_id = worker.accept()
    assert [outcome(task_id) for _ in range(2)] == ["cancelled", "cancelled"]
    assert kinds(worker.records, task_id) == ["cancelled"]


def test_what_is_no_task_is_no_error(worker: Worker) -> None:
    assert outcome(new_task_id("llm.completion")) == "unknown"
    for name in ("x", "", "graycat:live", "a" * 33, "saga-8"):
        assert outcome(name).startswith("no id of a task: those are 32 hexadecimal digits")
    # The delivery of a webhook, which only a control worker knows.
    assert outcome("t1 failed") == "no task of this worker"


def test_a_text_worker_does_not_touch_images_and_a_control_worker_touches_all(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = accepted(worker.records, kind="sd.txt2img", queue="sd")
    assert outcome(image) == "no task of this worker"
    sender: Any = FakeSender()
    monkeypatch.setattr(process, "webhook_sender", sender)
    assert outcome(image) == "cancelled"


def test_a_delivery_is_given_up_by_a_control_worker(control: Worker) -> None:
    assert [outcome("t1 failed") for _ in range(2)] == ["failed", "no delivery that waits"]


def test_without_a_broker_nothing_is_revoked(mortal_broker: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    with worker_on(mortal_broker, {}) as worker:
        monkeypatch.setattr(process, "records", worker.records)
        task_id = worker.accept()
        mortal_broker.kill()
        assert revoke([task_id], terminate=False) == {"error": "the broker does not answer"}


def test_an_image_is_revoked_by_its_worker(broker: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    with worker_on(broker, {}, queues=("sd", "sd.batch")) as worker:
        monkeypatch.setattr(process, "records", worker.records)
        monkeypatch.setattr(process, "webhook_sender", None)
        queued, text = worker.accept(kind="sd.txt2img", queue="sd.batch"), worker.accept()
        attempt, call = worker.claim(kind="sd.txt2img", queue="sd"), Call()
        with worker.runtime.running.track(attempt, call):
            assert outcome(attempt.task_id, terminate=True) == "running, asked to stop"
        assert call.stopped == StopReason.CANCELLED
        assert (outcome(queued), outcome(text)) == ("cancelled", "no task of this worker")
