from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from graycat.celeryapp import create_celery
from graycat.loops import threads
from graycat.loops.threads import GuardedThread
from graycat.loops.unexpected import UNEXPECTED
from graycat.worker.gate import MAX_QUICK_CALLS, POLL_INTERVAL_S, GateStep
from graycat.worker.runtime import SCRIPTS_MISSING, process
from tests.support.helpers import Valkey
from tests.support.servers import reply
from tests.support.webuis import image_worker_on
from tests.support.workers import Worker, worker_on


class FakePool:
    limit = 64


class FakeTimer:
    """Celery's timer, driven by hand."""

    def __init__(self) -> None:
        self.every_s = 0.0
        self.cancelled = False
        self._call: Callable[[], Any] = lambda: None

    def call_repeatedly(self, every_s: float, function: Callable[..., Any], args: tuple[Any, ...] = ()) -> FakeTimer:
        self.every_s, self._call = every_s, lambda: function(*args)
        return self

    def cancel(self) -> None:
        self.cancelled = True

    def tick(self) -> None:
        self._call()


class FakeConsumer:
    """As much of Celery's consumer as the gate touches; ``taking`` is what it consumes from."""

    def __init__(self, worker: Worker, queues: str) -> None:
        self.app = create_celery(worker.settings)
        self.app.amqp.queues.select(queues.split(","))
        self.pool, self.timer = FakePool(), FakeTimer()
        self.taking = queues.split(",")
        self.task_consumer: FakeConsumer = self

    def add_task_queue(self, queue: str) -> None:
        assert queue not in self.taking
        self.taking.append(queue)

    def cancel_task_queue(self, queue: str) -> None:
        # As Celery does: what is left is not taken again after a reconnect, unless somebody says so.
        self.app.amqp.queues.deselect([queue])
        if queue in self.taking:
            self.taking.remove(queue)

    def consuming_from(self, queue: str) -> bool:
        return queue in self.taking


@pytest.fixture
def worker(broker: Valkey) -> Iterator[Worker]:
    with worker_on(broker, {}) as worker:
        yield worker


def opened(worker: Worker, queues: str = "llm,llm.batch") -> tuple[GateStep, FakeConsumer]:
    """Return a gate that has been started, and its consumer."""
    worker.runtime.queues = tuple(queues.split(","))
    consumer = FakeConsumer(worker, queues)
    step = GateStep(consumer)
    step.start(consumer)
    return step, consumer


def test_nothing_is_taken_before_the_first_check(worker: Worker) -> None:
    _, consumer = opened(worker)
    assert (consumer.taking, worker.runtime.gate_open) == ([], False)
    assert consumer.timer.every_s == POLL_INTERVAL_S


def test_with_a_ready_engine_the_queues_are_joined_in_their_order(worker: Worker) -> None:
    _, consumer = opened(worker)
    consumer.timer.tick()
    assert (consumer.taking, worker.runtime.gate_open) == (["llm", "llm.batch"], True)
    consumer.timer.tick()
    assert consumer.taking == ["llm", "llm.batch"]


def test_an_image_worker_takes_what_is_for_its_engine_alone_too(broker: Valkey) -> None:
    with image_worker_on(broker, {}) as worker:
        _, consumer = opened(worker, "sd,sd.batch")
        consumer.timer.tick()
        assert consumer.taking == ["sd", "sd:@sd@here", "sd.batch", "sd.batch:@sd@here"]
        assert consumer.pool.limit == 1


def test_as_many_tasks_are_taken_as_the_engine_has_slots(worker: Worker) -> None:
    _, consumer = opened(worker)
    consumer.timer.tick()
    assert consumer.pool.limit == worker.runtime.slots == 2


def test_quick_calls_need_no_slots(worker: Worker) -> None:
    _, consumer = opened(worker, "llm.quick")
    consumer.timer.tick()
    assert (consumer.pool.limit, consumer.taking) == (MAX_QUICK_CALLS, ["llm.quick"])


def test_while_the_engine_is_away_nothing_is_taken(worker: Worker) -> None:
    _, consumer = opened(worker)
    consumer.timer.tick()
    worker.supervisor.suspect()
    consumer.timer.tick()
    assert (consumer.taking, worker.runtime.gate_open) == ([], False)
    worker.supervisor.step(10.0)
    consumer.timer.tick()
    assert (consumer.taking, worker.runtime.gate_open) == (["llm", "llm.batch"], True)


def test_that_it_takes_tasks_and_that_it_ceases_to_is_a_line_each(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "graycat.worker.gate")
    _, consumer = opened(worker)
    for paused, paused_queues in ((False, ()), (False, ("llm.batch",)), (True, ()), (True, ()), (False, ())):
        worker.runtime.paused, worker.runtime.paused_queues = paused, frozenset(paused_queues)
        consumer.timer.tick()
    extras = [(record.getMessage(), vars(record).get("reason", "")) for record in caplog.records]
    assert extras == [("ready", ""), ("takes no tasks", "it is paused"), ("ready", "")]


def test_while_a_loop_that_tasks_need_is_stuck_nothing_is_taken(worker: Worker) -> None:
    _, consumer = opened(worker)
    consumer.timer.tick()
    loop = GuardedThread("stream relay", lambda: None)
    loop.stuck_after_s = 0.0
    loop._thread = threading.current_thread()
    threads._started[0] = loop
    try:
        loop.beat()
        consumer.timer.tick()
        assert (consumer.taking, worker.runtime.gate_open) == ([], False)
        assert worker.runtime.idle_reason == "stuck or gone: stream relay"
        assert not process.serves
        loop.rest()
        consumer.timer.tick()
        assert (consumer.taking, worker.runtime.gate_open) == (["llm", "llm.batch"], True)
        assert process.serves
    finally:
        del threads._started[0]


def test_a_check_that_fails_is_noted_and_the_next_one_counts(worker: Worker) -> None:
    _, consumer = opened(worker)
    before: float = UNEXPECTED.labels("gate")._value.get()
    info = worker.supervisor.info
    odd: Any = SimpleNamespace(models=7, slots=2)
    worker.supervisor.info = odd
    consumer.timer.tick()
    assert UNEXPECTED.labels("gate")._value.get() == before + 1
    worker.supervisor.info = info
    consumer.timer.tick()
    assert consumer.taking == ["llm", "llm.batch"]


def test_an_engine_that_came_back_with_fewer_slots_gets_fewer_tasks(worker: Worker) -> None:
    _, consumer = opened(worker)
    consumer.timer.tick()
    worker.supervisor.suspect()
    consumer.timer.tick()
    worker.seen.answers["GET /props"] = reply(200, {"total_slots": 1})
    worker.supervisor.step(10.0)
    consumer.timer.tick()
    assert consumer.pool.limit == 1


def test_each_check_is_a_heartbeat_of_the_main_loop(worker: Worker) -> None:
    _, consumer = opened(worker)
    before = time.monotonic()
    consumer.timer.tick()
    assert before <= process.heartbeat.seen_at <= time.monotonic()


def test_the_gate_is_closed_when_the_consumer_stops(worker: Worker) -> None:
    step, consumer = opened(worker)
    consumer.timer.tick()
    step.stop(consumer)
    assert (consumer.timer.cancelled, worker.runtime.gate_open) == (True, False)


def test_a_consumer_that_comes_back_is_let_in_again(worker: Worker) -> None:
    step, consumer = opened(worker)
    consumer.timer.tick()
    step.stop(consumer)
    _, fresh = opened(worker)
    assert fresh.taking == []
    fresh.timer.tick()
    assert fresh.taking == ["llm", "llm.batch"]


def test_a_consumer_that_reconnects_while_the_gate_is_closed_takes_its_queues_later(worker: Worker) -> None:
    step, consumer = opened(worker)
    worker.runtime.paused = True
    consumer.timer.tick()
    step.stop(consumer)
    assert list(consumer.app.amqp.queues.consume_from) == []
    step.start(consumer)
    consumer.timer.tick()
    assert consumer.taking == []
    worker.runtime.paused = False
    consumer.timer.tick()
    assert consumer.taking == ["llm", "llm.batch"]


def test_a_queue_that_celery_s_own_command_cancels_is_left_until_it_is_added(worker: Worker) -> None:
    _, consumer = opened(worker)
    consumer.timer.tick()
    consumer.cancel_task_queue("llm")
    for _ in range(2):
        consumer.timer.tick()
        assert (consumer.taking, worker.runtime.gate_open) == (["llm.batch"], True)
    consumer.cancel_task_queue("llm.batch")
    consumer.timer.tick()
    assert (consumer.taking, worker.runtime.gate_open) == ([], False)
    assert worker.runtime.idle_reason == "its queues are paused or left"
    consumer.add_task_queue("llm.batch")
    consumer.timer.tick()
    consumer.add_task_queue("llm")
    consumer.timer.tick()
    # In the order that is their priority, whatever came first.
    assert (consumer.taking, worker.runtime.gate_open) == (["llm", "llm.batch"], True)


def test_a_queue_that_was_left_stays_so_while_the_engine_comes_and_goes(worker: Worker) -> None:
    _, consumer = opened(worker)
    consumer.timer.tick()
    consumer.cancel_task_queue("llm")
    consumer.timer.tick()
    worker.supervisor.suspect()
    consumer.timer.tick()
    worker.supervisor.step(10.0)
    consumer.timer.tick()
    assert consumer.taking == ["llm.batch"]


@pytest.mark.parametrize(("queues", "gated"), [("llm", True), ("llm.quick", True), ("control", False), ("sd", True)])
def test_a_worker_without_an_engine_has_no_gate(worker: Worker, queues: str, gated: bool) -> None:
    consumer = FakeConsumer(worker, queues)
    assert GateStep(consumer).include_if(consumer) is gated


def test_a_worker_reports_that_it_consumes_before_it_takes_a_task(broker: Valkey) -> None:
    reports = []
    with worker_on(broker, {}) as worker:
        worker.runtime.report = lambda: reports.append(worker.runtime.gate_open)
        consumer = FakeConsumer(worker, "llm")
        GateStep(consumer).start(consumer)
        assert reports == []
        consumer.timer.tick()
        assert reports == [True]
        consumer.timer.tick()
        assert reports == [True]


def test_nothing_is_taken_while_home_lacks_this_version_s_scripts(worker: Worker) -> None:
    worker.runtime.scripts_loaded = False
    step, consumer = opened(worker)
    consumer.timer.tick()
    assert (consumer.taking, worker.runtime.idle_reason) == ([], SCRIPTS_MISSING)
    worker.runtime.scripts_loaded = True
    consumer.timer.tick()
    assert consumer.taking == ["llm", "llm.batch"]
    step.stop(consumer)
