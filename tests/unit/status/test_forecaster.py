from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from graycat.broker import keys
from graycat.fleet.reports import WorkerStatus
from graycat.fleet.workers import WorkerRegistry
from graycat.status.forecast import Wait
from graycat.status.forecaster import Forecaster
from tests.support.helpers import Valkey, accepted, claimed

Ask = Callable[..., Wait]


def text_worker(slots: int = 1, **changes: Any) -> WorkerStatus:
    fields: dict[str, Any] = {"engine": "e", "engine_state": "ready", "consuming": True, "busy": 0, "props": "{}"}
    return WorkerStatus(name="llm@box", queues=("llm", "llm.batch"), slots=slots, **(fields | changes))


@pytest.fixture
def ask(broker: Valkey, records) -> Ask:
    """Return how to ask, with a fresh look each time, when a task will be started."""

    def wait(task_id: str, *workers: WorkerStatus) -> Wait:
        forecaster = Forecaster(broker.client, records, WorkerRegistry(broker.client))
        return forecaster.wait(task_id, records.get(task_id), workers or (text_worker(),))

    return wait


@pytest.fixture
def means(broker: Valkey) -> Callable[..., None]:
    """Return how to set how long tasks take (ms)."""

    def put(**values: int) -> None:
        mapping: dict[Any, Any] = {name.replace("__", "."): value for name, value in values.items()}
        broker.client.hset(keys.means_key("llm"), mapping=mapping)

    return put


def test_a_batch_task_stands_behind_the_interactive_ones_of_all_tokens(records, ask, means) -> None:
    means(llm__completion=2000)
    batch = [accepted(records, queue="llm.batch", owner=owner) for owner in "ab"]
    for owner in "abcaa":
        accepted(records, owner=owner)
    assert [ask(task_id).position for task_id in batch] == [6, 7]
    assert [ask(task_id).eta_s for task_id in batch] == [12.0, 14.0]


def test_what_stands_in_front_counts_with_its_own_kind_s_duration(records, ask, means) -> None:
    means(llm__completion=100, llm__chat=20_000)
    accepted(records, owner="a", kind="llm.chat")
    accepted(records, owner="a", kind="llm.chat")
    task_id = accepted(records, owner="a", kind="llm.completion", queue="llm.batch")
    told = ask(task_id)
    assert told.position == 3
    assert told.eta_s is not None
    assert told.eta_s >= 40.0


def test_a_task_that_runs_for_longer_than_usual_is_not_taken_for_done(broker, records, ask, means) -> None:
    means(llm__completion=100)
    running = claimed(records, accepted(records, owner="a"), "llm@box")
    message = json.dumps([{"headers": {"id": running.task_id, "task": "llm.completion"}}, "", "llm"])
    broker.client.hset("unacked:llm", "tag", message)
    broker.client.hset(keys.record_key(running.task_id), "claimed_ms", int(time.time() * 1000) - 60_000)
    told = ask(accepted(records, owner="b"))
    assert told.position == 1
    assert told.eta_s is not None
    assert told.eta_s >= 30.0


@pytest.mark.parametrize(
    ("workers", "reason"),
    [
        ((text_worker(paused=True, consuming=False),), "all workers of the queue llm are paused or drained"),
        ((text_worker(engine_state="loading", consuming=False),), "no engine for the queue llm is ready"),
        ((WorkerStatus("sd@b", ("sd",), "e", "ready", True, 1, 0, "{}"),), "no worker that takes"),
    ],
)
def test_if_nobody_takes_it_there_is_a_place_a_reason_and_no_time(records, ask, means, workers, reason) -> None:
    means(llm__completion=100)
    accepted(records, owner="a")
    told = ask(accepted(records, owner="b"), *workers)
    assert (told.position, told.eta_s) == (2, None)
    assert reason in told.reason


def test_a_paused_queue_is_named(broker, records, ask, means) -> None:
    means(llm__completion=100)
    WorkerRegistry(broker.client).pause_queue("llm")
    told = ask(accepted(records), text_worker(left=("llm",)))
    assert (told.eta_s, told.reason) == (None, "the queue llm is paused")


@pytest.mark.parametrize("worker", [text_worker(left=("llm",)), text_worker()])
def test_a_batch_task_goes_on_beside_a_paused_interactive_queue(broker, records, ask, means, worker) -> None:
    means(llm__completion=100)
    WorkerRegistry(broker.client).pause_queue("llm")
    # One of them is parked.
    for _ in range(2):
        accepted(records, owner="a")
    batch = accepted(records, owner="a", queue="llm.batch")
    assert ask(batch, worker).position == 1
    assert ask(batch, worker).eta_s == 0.1


def test_what_waits_in_a_paused_queue_is_before_nothing_if_no_worker_lives(broker, records, ask) -> None:
    WorkerRegistry(broker.client).pause_queue("llm")
    accepted(records, owner="a")
    batch = accepted(records, owner="a", queue="llm.batch")
    gone = WorkerStatus("sd@b", ("sd",), "e", "ready", True, 1, 0, "{}")
    assert (ask(batch, gone).position, ask(batch, gone).eta_s) == (1, None)


def test_before_anything_was_measured_there_is_no_time(records, ask) -> None:
    told = ask(accepted(records))
    assert (told.position, told.eta_s) == (1, None)
    assert "no such task has ended" in told.reason


def test_a_quick_call_stands_behind_those_that_came_before(records, ask) -> None:
    quick = WorkerStatus("quick@box", ("llm.quick",), "e", "ready", True, 4, 0, "{}")
    tasks = [accepted(records, queue="llm.quick", kind="llm.tokenize") for _ in range(3)]
    assert [ask(task_id, quick).position for task_id in tasks] == [1, 2, 3]


def test_a_task_that_does_not_wait_has_no_place(records, ask) -> None:
    running = claimed(records, accepted(records))
    assert (ask(running.task_id).position, ask(running.task_id).eta_s) == (0, None)


def test_a_slot_of_which_nothing_is_known_is_taken_as_a_task_waits(broker, records, ask, means) -> None:
    means(llm__completion=3000)
    claimed(records, accepted(records, owner="a"), "llm@box")
    # The look at the queue finds it empty: another token's task comes later.
    task_id = accepted(records, owner="b")
    broker.client.delete("llm")
    assert ask(task_id) == Wait(1, 3.0)


def test_rubbish_in_the_broker_is_worth_no_error(broker, records, ask) -> None:
    task_id = accepted(records)
    broker.client.hset(keys.means_key("llm"), mapping={"llm.completion": b"\xff", "llm": "inf"})
    broker.client.hset("unacked:llm", "tag", b"\xff{")
    broker.client.rpush("llm", b"[1]")
    assert ask(task_id).eta_s is None


def test_a_thousand_who_poll_look_once(records, broker, means, monkeypatch) -> None:
    means(llm__completion=100)
    looks: list[str] = []
    read = Forecaster._read_means

    def counted(self: Forecaster, family: str) -> dict[str, float]:
        looks.append(family)
        return read(self, family)

    monkeypatch.setattr(Forecaster, "_read_means", counted)
    monkeypatch.setattr("graycat.status.forecaster.MAX_AGE_S", 3600.0)
    forecaster = Forecaster(broker.client, records, WorkerRegistry(broker.client))
    task_id = accepted(records)
    record = records.get(task_id)
    workers = [text_worker()]
    for _ in range(1000):
        assert forecaster.wait(task_id, record, workers).position == 1
    assert looks == ["llm"]
