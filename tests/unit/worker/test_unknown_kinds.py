from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from graycat.loops.unexpected import UNEXPECTED
from graycat.queue.records import MAX_REFUSALS
from graycat.worker.runtime import process
from graycat.worker.unknown_kinds import refuse
from tests.support.helpers import Valkey, accepted, changed, eventually
from tests.support.workers import Worker, worker_on

#: A kind that only a newer release has.
NEWER = "llm.of_next_year"


@pytest.fixture
def worker(broker: Valkey, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """Yield a text worker whose records the process knows."""
    with worker_on(broker, {}) as made:
        monkeypatch.setattr(process, "records", made.records)
        monkeypatch.setattr(process, "webhook_sender", None)
        yield made


def refuse_often(name: str, task_id: str) -> None:
    for _ in range(MAX_REFUSALS):
        refuse(name=name, id=task_id, sender=None, message=None, exc=None)


def test_a_task_that_no_worker_knows_fails_after_some_tries(worker: Worker) -> None:
    task_id = worker.accept(kind=NEWER)
    refuse(NEWER, task_id)
    assert worker.ended(task_id) == ("queued", "")
    refuse_often(NEWER, task_id)
    assert worker.ended(task_id) == ("failed", "501")
    (event,) = worker.records.events(task_id)
    assert b"of an older release" in event.data


def test_the_next_task_of_its_owner_takes_the_turn(worker: Worker, broker: Valkey) -> None:
    unknown = worker.accept(kind=NEWER)
    behind = worker.accept()
    # A worker has taken the only message in the queue, and Celery has dropped it.
    broker.client.delete("llm")
    refuse(NEWER, unknown)
    assert [json.loads(message)["headers"]["id"] for message in broker.client.lrange("llm", 0, -1)] == [behind]
    assert worker.ended(unknown) == ("queued", "")


def test_an_error_with_one_message_is_counted_and_the_next_one_is_handled(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = worker.accept(kind=NEWER)
    with monkeypatch.context() as broken:
        broken.setattr(worker.records, "refuse", lambda *_: 1 / 0)
        before = UNEXPECTED.labels("unknown kinds")._value.get()
        refuse_often(NEWER, task_id)
        assert UNEXPECTED.labels("unknown kinds")._value.get() > before
    refuse_often(NEWER, task_id)
    assert worker.ended(task_id) == ("failed", "501")


def test_another_program_s_message_does_not_count(worker: Worker) -> None:
    task_id = worker.accept()
    refuse_often(NEWER, task_id)
    refuse_often("llm.completion", "nowhere")
    assert worker.ended(task_id) == ("queued", "")


def test_a_task_that_runs_elsewhere_or_has_ended_is_left_alone(worker: Worker) -> None:
    attempt = worker.claim(kind=NEWER)
    refuse_often(NEWER, attempt.task_id)
    assert worker.ended(attempt.task_id) == ("running", "")
    assert worker.records.succeed(attempt, 200, b"{}")
    refuse_often(NEWER, attempt.task_id)
    assert worker.ended(attempt.task_id) == ("succeeded", "200")


def test_one_whose_worker_died_fails_too(worker: Worker, broker: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    hasty = type(worker.records)(broker.client, changed(broker.settings, lease_s=0.01))
    task_id = accepted(hasty, kind=NEWER)
    hasty.claim(task_id, "llm@newer")

    def has_failed() -> bool:
        refuse(NEWER, task_id)
        return worker.ended(task_id)[0] == "failed"

    eventually(has_failed)


def test_a_text_worker_does_not_touch_images(worker: Worker) -> None:
    task_id = worker.accept(kind="sd.of_next_year", queue="sd")
    refuse_often("sd.of_next_year", task_id)
    assert worker.ended(task_id) == ("queued", "")


def test_without_a_broker_nothing_is_counted(mortal_broker: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    with worker_on(mortal_broker, {}) as worker:
        monkeypatch.setattr(process, "records", worker.records)
        task_id = worker.accept(kind=NEWER)
        mortal_broker.kill()
        refuse(NEWER, task_id)
