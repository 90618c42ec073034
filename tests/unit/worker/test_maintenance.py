from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from typing import Any

import pytest
from celery.worker import state

from graycat.broker import keys
from graycat.engines import gpus
from graycat.engines.client import Call
from graycat.engines.gpus import GpuState
from graycat.fleet.reports import WorkerStatus
from graycat.fleet.workers import WorkerRegistry
from graycat.loops.threads import GuardedThread
from graycat.queue.models import Attempt
from graycat.queue.records import TaskRecords
from graycat.worker import engine_slots, maintenance
from graycat.worker.heartbeat import LOOP_STUCK_AFTER_S
from graycat.worker.maintenance import WorkerMaintenance
from graycat.worker.runtime import SCRIPTS_MISSING, process
from tests.support.helpers import PATIENCE_S, Stopwatch, Valkey, claimed, eventually
from tests.support.servers import hold, reply
from tests.support.workers import Worker, worker_on


@pytest.fixture(autouse=True)
def short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every duty done many times a second."""
    monkeypatch.setattr(maintenance, "TICK_INTERVAL_S", 0.01)
    monkeypatch.setattr(maintenance, "REPORT_INTERVAL_S", 0.02)


@contextmanager
def maintained(broker: Valkey, **changes: Any) -> Iterator[Worker]:
    """Run a worker's maintenance for the block."""
    gpu = changes.pop("gpu", None)
    with worker_on(broker, {}, **changes) as worker:
        worker.runtime.gpu = gpu
        maintenance_thread = WorkerMaintenance(worker.runtime, worker.app)
        maintenance_thread.start()
        yield worker
        maintenance_thread.stop()


def reported(broker: Valkey, wanted: Callable[[WorkerStatus], bool]) -> WorkerStatus:
    """Return the worker's report, when it is as wanted."""

    def look() -> WorkerStatus | None:
        return next((status for status in WorkerRegistry(broker.client).workers() if wanted(status)), None)

    found = eventually(look)
    assert found is not None
    return found


def test_a_worker_says_what_it_is_doing(broker: Valkey) -> None:
    with maintained(broker, queues=("llm", "llm.batch")) as worker:
        worker.runtime.gate_open = True
        process.heartbeat.beat()
        with worker.runtime.running.track(worker.claim()):
            status = reported(broker, lambda status: status.busy == 1 and status.consuming)
        props = '{"total_slots": 2}'
        models: dict[str, Any] = {"models": (), "model_list": '{"object": "list", "data": []}'}
        assert status == WorkerStatus(
            "llm@here", ("llm", "llm.batch"), "scripted", "ready", True, 2, 1, props, **models
        )
        reported(broker, lambda status: status.busy == 0)


def test_a_worker_tells_how_much_of_it_is_batch_work(broker: Valkey) -> None:
    with maintained(broker, queues=("llm", "llm.batch")) as worker:
        batch = replace(worker.claim(), queue="llm.batch:gemma")
        with worker.runtime.running.track(worker.claim()), worker.runtime.running.track(batch):
            reported(broker, lambda status: (status.busy, status.busy_batch) == (2, 1))


def test_a_worker_tells_what_its_engine_s_slots_do(broker: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_slots, "REFRESH_INTERVAL_S", 0.02)
    slots = b'[{"id": 0, "is_processing": false}]'
    with maintained(broker) as worker:
        worker.seen.answers["GET /slots"] = reply(200, slots)
        reported(broker, lambda status: bool(status.catalog))
        assert WorkerRegistry(broker.client).catalog("llm@here") == {"/slots": slots}
        monkeypatch.setattr(engine_slots, "LOOK_TIMEOUT_S", 0.01)
        worker.seen.answers["GET /slots"] = hold
        assert reported(broker, lambda status: status.slots_age_s > 0.1).catalog


def test_the_quick_lane_does_not_look_at_the_slots(broker: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_slots, "REFRESH_INTERVAL_S", 0.02)
    with maintained(broker, queues=("llm.quick",)) as worker:
        worker.seen.answers["GET /slots"] = reply(200, b"[]")
        for busy in (1, 0):
            with worker.runtime.running.track(worker.claim()) if busy else nullcontext():
                reported(broker, lambda status, busy=busy: status.busy == busy)  # type: ignore[misc]
        assert "/slots" not in [path for _, path, _ in worker.seen.requests]


def test_a_worker_whose_engine_is_away_says_so(broker: Valkey) -> None:
    with maintained(broker) as worker:
        worker.supervisor.suspect()
        reported(broker, lambda status: status.engine_state == "loading")


def test_a_worker_whose_engine_is_away_does_not_say_that_it_consumes(broker: Valkey) -> None:
    """The gate, which closes at its next look, may still be open."""
    with maintained(broker) as worker:
        worker.runtime.gate_open = True
        process.heartbeat.beat()
        reported(broker, lambda status: status.consuming)
        worker.supervisor.suspect()
        status = reported(broker, lambda status: status.engine_state == "loading")
        assert (worker.runtime.gate_open, status.consuming) == (True, False)


def test_a_queue_is_left_when_the_consumer_takes_nothing_more_from_it(broker: Valkey) -> None:
    with maintained(broker, queues=("llm", "llm.batch")) as worker:
        worker.runtime.consumed_queues = frozenset(("llm", "llm.batch"))
        worker.runtime.fleet.pause_queue("llm.batch")
        eventually(lambda: worker.runtime.paused_queues)
        # This report was made after the queue's pause was read, and before the gate's next look.
        worker.runtime.report()
        assert [status.left for status in WorkerRegistry(broker.client).workers()] == [()]
        worker.runtime.consumed_queues = frozenset(("llm",))
        assert reported(broker, lambda status: bool(status.left)).left == ("llm.batch",)


def test_a_worker_whose_main_loop_hangs_does_not_consume(broker: Valkey) -> None:
    with maintained(broker) as worker:
        worker.runtime.gate_open = True
        process.heartbeat.beat()
        reported(broker, lambda status: status.consuming)
        process.heartbeat.seen_at -= LOOP_STUCK_AFTER_S
        reported(broker, lambda status: not status.consuming)


@pytest.mark.parametrize(("name", "consuming"), [("stream relay", False), ("artifacts", True)])
def test_a_worker_names_a_loop_that_is_stuck_and_consumes_only_without_need_of_it(
    broker: Valkey, name: str, consuming: bool
) -> None:
    hangs = threading.Event()

    def hang() -> None:
        loop.beat()
        hangs.wait()

    loop = GuardedThread(name, hang)
    loop.stuck_after_s = 0.0
    with maintained(broker) as worker:
        worker.runtime.gate_open = True
        process.heartbeat.beat()
        loop.start()
        assert reported(broker, lambda status: status.stuck == (name,)).consuming is consuming
        loop.request_stop()
        hangs.set()
        loop.join()
        reported(broker, lambda status: status.stuck == ())


def test_a_task_past_its_deadline_is_stopped(broker: Valkey) -> None:
    with maintained(broker, exec_timeout_s=0.05) as worker, worker.runtime.running.track(worker.claim()) as call:
        assert stopped(call) == "timed out"


def stopped(call: Call) -> str | None:
    """Return why a call was stopped, when it is."""
    return eventually(lambda: call.stopped)


def test_a_task_within_its_deadline_is_left_alone(broker: Valkey) -> None:
    with maintained(broker, lease_s=0.1) as worker, worker.runtime.running.track(worker.claim()) as call:
        renewed(worker, worker.runtime.running.all()[0].attempt)
        assert call.stopped is None


def renewed(worker: Worker, attempt: Attempt) -> None:
    """Wait until a lease has been renewed twice."""
    for _ in range(2):
        before = worker.records.get(attempt.task_id)["lease_ms"]
        eventually(lambda before=before: worker.records.get(attempt.task_id)["lease_ms"] > before)  # type: ignore[misc]


def test_a_living_worker_keeps_its_task(broker: Valkey) -> None:
    with maintained(broker, lease_s=0.3) as worker:
        attempt = worker.claim()
        with worker.runtime.running.track(attempt):
            renewed(worker, attempt)
            assert worker.records.claim(attempt.task_id, "llm@there") == "leased"


def test_a_cancelled_task_is_stopped_if_the_command_was_lost(broker: Valkey) -> None:
    with maintained(broker, lease_s=0.1) as worker:
        attempt = worker.claim()
        with worker.runtime.running.track(attempt) as call:
            worker.records.cancel(attempt.task_id)
            assert stopped(call) == "cancelled"


def test_a_task_that_another_worker_has_taken_over_is_stopped(broker: Valkey) -> None:
    with maintained(broker, lease_s=0.1) as worker:
        attempt = worker.claim()
        worker.records.release(attempt)
        claimed(worker.records, attempt.task_id, "llm@there")
        with worker.runtime.running.track(attempt) as call:
            assert stopped(call) == "stale"
        assert worker.records.get(attempt.task_id)["worker"] == "llm@there"


class FakeRequest:
    """As much of Celery's request as matters here."""

    def __init__(self, tag: str, *, acknowledged: bool = False) -> None:
        self.acknowledged = acknowledged
        self.message = self
        self.delivery_tag = tag


@contextmanager
def reserved(*requests: FakeRequest) -> Iterator[None]:
    """Have Celery hold some requests for the block."""
    # As Celery types it, a set of its own requests.
    held: Any = state.reserved_requests
    held.update(requests)
    yield
    held.difference_update(requests)


def test_messages_of_a_living_worker_are_not_delivered_again(broker: Valkey) -> None:
    broker.client.zadd("unacked_index", {"held": 1, "of another worker": 1})
    requests = FakeRequest("held"), FakeRequest("done", acknowledged=True), FakeRequest("acknowledged just now")
    with maintained(broker, lease_s=0.1), reserved(*requests):
        eventually(lambda: time.time() - (broker.client.zscore("unacked_index", "held") or 0) < 5)
        # The two that are not in the index any more are not brought back.
        assert broker.client.zrange("unacked_index", 0, -1) == [b"of another worker", b"held"]
        assert broker.client.zscore("unacked_index", "of another worker") == 1


def test_lost_tasks_are_enqueued_again(broker: Valkey) -> None:
    with maintained(broker, lease_s=0.05) as worker:
        worker.accept()
        worker.client.delete("llm")
        eventually(lambda: worker.client.llen("llm") == 1)


def test_a_message_that_cannot_be_read_does_not_end_the_maintenance(broker: Valkey) -> None:
    with maintained(broker, lease_s=0.05) as worker:
        attempt = worker.claim()
        worker.client.lpush("llm", b"no message at all")
        # Every worker's leases would else run out, and every task be run again.
        with worker.runtime.running.track(attempt):
            for _ in range(5):
                renewed(worker, attempt)


def test_a_worker_that_stops_leaves_the_fleet(broker: Valkey) -> None:
    with maintained(broker):
        reported(broker, lambda status: True)
    assert WorkerRegistry(broker.client).workers() == []


def test_a_worker_stops_without_a_broker_too(mortal_broker: Valkey) -> None:
    with maintained(mortal_broker):
        reported(mortal_broker, lambda status: True)
        mortal_broker.kill()
        watch = Stopwatch()
    assert watch.seconds < 5
    mortal_broker.start()


@pytest.mark.parametrize("busy", [False, True])
def test_maintenance_goes_on_after_the_broker_was_away(mortal_broker: Valkey, busy: bool) -> None:
    with maintained(mortal_broker, lease_s=0.1), reserved(*[FakeRequest("held")] * busy):
        reported(mortal_broker, lambda status: True)
        mortal_broker.kill()
        # Long enough for every duty to fail.
        begun = time.monotonic()
        eventually(lambda: time.monotonic() > begun + 0.3)
        mortal_broker.start()
        mortal_broker.client.delete(keys.worker_key("llm@here"))
        reported(mortal_broker, lambda status: True)


def test_a_worker_says_how_its_gpu_is_doing(broker: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def state(gpu: int) -> GpuState:
        asked.append(gpu)
        return GpuState(utilization=42, memory_used=3000, memory_total=8000, temperature=61)

    monkeypatch.setattr(gpus, "read_gpu_state", state)
    with maintained(broker, gpu=3):
        status = reported(broker, lambda status: status.gpu_state is not None)
        assert (status.gpu, status.gpu_state) == (3, asdict(state(3)))
        # Many reports, one question.
        for _ in range(5):
            broker.client.delete(keys.worker_key("llm@here"))
            reported(broker, lambda status: True)
    assert asked == [3, 3]


def test_a_driver_that_hangs_keeps_nothing_from_being_done(broker: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = threading.Event()
    monkeypatch.setattr(maintenance, "GPU_STOP_TIMEOUT_S", 0.05)
    monkeypatch.setattr(gpus, "read_gpu_state", lambda _: None if hangs.wait(PATIENCE_S) else None)
    with maintained(broker, lease_s=0.1, gpu=0) as worker:
        attempt = worker.claim()
        with worker.runtime.running.track(attempt):
            renewed(worker, attempt)
        watch = Stopwatch()
    assert watch.seconds < 2
    hangs.set()


def test_an_older_report_never_overwrites_a_newer_one(broker: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    with worker_on(broker, {}) as worker:
        runtime = worker.runtime
        WorkerMaintenance(runtime, worker.app)
        write, begun, go_on = runtime.fleet.report, threading.Event(), threading.Event()

        def write_late(*args: Any) -> None:
            begun.set()
            go_on.wait(PATIENCE_S)
            write(*args)

        monkeypatch.setattr(runtime.fleet, "report", write_late)
        older = threading.Thread(target=runtime.report)
        older.start()
        begun.wait(PATIENCE_S)
        # The gate opens while a report of the time before is on its way.
        monkeypatch.setattr(runtime.fleet, "report", write)
        runtime.gate_open = True
        process.heartbeat.beat()
        newer = threading.Thread(target=runtime.report)
        newer.start()
        newer.join(0.2)
        go_on.set()
        for thread in (older, newer):
            thread.join(PATIENCE_S)
        assert [status.consuming for status in WorkerRegistry(broker.client).workers()] == [True]


def test_a_worker_says_that_home_does_not_have_its_scripts(
    broker: Valkey, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(maintenance, "SCRIPTS_INTERVAL_S", 0.02)
    known = [False]
    monkeypatch.setattr(TaskRecords, "are_scripts_loaded", lambda _: known[0])
    with maintained(broker) as worker:
        reported(broker, lambda status: status.trouble == SCRIPTS_MISSING)
        known[0] = True
        reported(broker, lambda status: not status.trouble)
        assert worker.runtime.scripts_loaded
    assert [record.getMessage() for record in caplog.records].count(SCRIPTS_MISSING) == 1
