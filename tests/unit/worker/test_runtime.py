from __future__ import annotations

import time

import pytest

from graycat.engines.client import Call, StopReason
from graycat.queue.models import Attempt
from graycat.tasks.sd import RenderCall
from graycat.worker import runtime as rt
from graycat.worker.runtime import RunningTasks
from tests.support.helpers import Valkey
from tests.support.workers import worker_on


def attempt_at(task_id: str, number: int = 1, exec_timeout_s: float = 600.0) -> Attempt:
    kind, mode, body = "llm.completion", "stream", b"{}"
    return Attempt(
        task_id, number, kind, mode, body, exec_timeout_s, "", resumed=False, started_id="1-0", owner="tests"
    )


def test_an_attempt_is_known_while_it_runs() -> None:
    running = RunningTasks()
    with running.track(attempt_at("a")) as call, running.track(attempt_at("b")):
        assert {entry.attempt.task_id for entry in running.all()} == {"a", "b"}
        assert running.all()[0].call is call
    assert running.all() == []


def test_an_attempt_that_fails_is_forgotten_too() -> None:
    running = RunningTasks()
    with pytest.raises(ZeroDivisionError), running.track(attempt_at("a")):
        raise ZeroDivisionError
    assert running.all() == []


def test_an_attempt_s_deadline_is_its_own() -> None:
    running = RunningTasks()
    before = time.monotonic()
    with running.track(attempt_at("a", exec_timeout_s=5.0)):
        (entry,) = running.all()
    assert before + 5 <= entry.deadline <= time.monotonic() + 5


def test_only_the_task_that_is_meant_is_stopped() -> None:
    running = RunningTasks()
    with running.track(attempt_at("a")) as mine, running.track(attempt_at("b")) as other:
        assert running.stop("a", StopReason.CANCELLED)
        assert (mine.stopped, other.stopped) == (StopReason.CANCELLED, None)


def test_what_does_not_run_here_cannot_be_stopped() -> None:
    assert not RunningTasks().stop("a", StopReason.CANCELLED)
    assert not RunningTasks().skip("a")


def test_only_a_call_that_knows_batches_skips_one() -> None:
    running = RunningTasks()
    with running.track(attempt_at("a")), running.track(attempt_at("b"), RenderCall()) as render:
        assert (running.skip("a"), running.skip("b")) == (False, True)
        assert isinstance(render, RenderCall)
        assert render.skip_requested


def test_a_newer_attempt_is_not_forgotten_when_the_older_ends() -> None:
    running = RunningTasks()
    older = running.track(attempt_at("a"))
    first: Call = older.__enter__()
    with running.track(attempt_at("a", 2)) as second:
        older.__exit__(None, None, None)
        assert [entry.call for entry in running.all()] == [second]
        running.stop("a", StopReason.CANCELLED)
    assert (first.stopped, second.stopped) == (None, StopReason.CANCELLED)


def test_a_worker_has_as_many_slots_as_its_engine(broker: Valkey) -> None:
    with worker_on(broker, {}) as worker:
        assert (worker.runtime.slots, worker.runtime.ready) == (2, True)
        assert rt.engine_runtime() is worker.runtime


def test_before_its_engine_is_ready_a_worker_has_one_slot(broker: Valkey) -> None:
    with worker_on(broker, {}) as worker:
        worker.supervisor.info = None
        worker.supervisor.suspect()
        assert (worker.runtime.slots, worker.runtime.ready) == (1, False)


def test_a_worker_is_well_if_it_consumes_and_its_engine_answers(broker: Valkey) -> None:
    with worker_on(broker, {}) as worker:
        process = rt.WorkerProcess(engine=worker.runtime)
        assert "main loop" in process.trouble()
        process.heartbeat.beat()
        assert process.trouble() == ""
        worker.runtime.paused = True
        assert process.trouble() == ""
        worker.runtime.scripts_loaded = False
        assert "scripts" in process.trouble()
        worker.supervisor.suspect()
        assert process.trouble() == "its engine is loading"


def test_a_worker_without_an_engine_is_well_while_its_loops_run(monkeypatch: pytest.MonkeyPatch) -> None:
    process = rt.WorkerProcess()
    process.heartbeat.beat()
    assert process.trouble() == ""
    monkeypatch.setattr(rt, "is_held_up", lambda: True)
    monkeypatch.setattr(rt, "stuck_loops", lambda: ["control"])
    assert process.trouble() == "stuck or gone: control"
