from __future__ import annotations

import signal
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker import state

from graycat.engines.client import Call, StopReason
from graycat.worker import stopping
from graycat.worker.runtime import RunningTasks
from graycat.worker.stopping import StopDeadline, StopStep, hand_back
from tests.support.helpers import AT_ONCE_S, Stopwatch, Valkey, eventually
from tests.support.workers import worker_on

LAST_S = 0.3


class Scene:
    """A deadline, and what it has done so far."""

    def __init__(self, grace_s: float) -> None:
        self.done: list[str] = []
        self.ended = threading.Event()
        self.deadline = StopDeadline(lambda: grace_s, lambda: self.done.append("handed back"), self._end)

    def _end(self) -> None:
        self.done.append("ended")
        self.ended.set()


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "LAST_S", LAST_S)
    monkeypatch.setattr(stopping, "LOOK_INTERVAL_S", 0.01)


@pytest.fixture
def active(monkeypatch: pytest.MonkeyPatch) -> set[Any]:
    """Return the set of Celery's running tasks."""
    requests: set[Any] = set()
    monkeypatch.setattr(state, "active_requests", requests)
    return requests


def test_a_worker_without_tasks_ends_in_a_moment_however_long_its_grace_period_is(active: set[Any]) -> None:
    scene = Scene(grace_s=3600)
    scene.deadline.begin()
    assert scene.ended.wait(AT_ONCE_S)
    assert scene.done == ["ended"]


def test_nothing_ends_until_it_is_asked_to(active: set[Any]) -> None:
    scene = Scene(grace_s=0)
    assert not scene.ended.wait(2 * LAST_S)


def test_tasks_get_the_grace_period_and_are_then_handed_back(active: set[Any]) -> None:
    active.add("a task that never ends")
    scene, stopwatch = Scene(grace_s=0.2), Stopwatch()
    scene.deadline.begin()
    scene.deadline.begin(sig="SIGTERM")
    assert scene.ended.wait(AT_ONCE_S)
    assert scene.done == ["handed back", "ended"]
    assert stopwatch.seconds >= 0.2 + LAST_S


def test_a_worker_ends_a_moment_after_its_last_task(active: set[Any]) -> None:
    active.add("a task")
    scene = Scene(grace_s=3600)
    scene.deadline.begin()
    assert not scene.ended.wait(2 * LAST_S)
    active.clear()
    assert scene.ended.wait(AT_ONCE_S)
    assert scene.done == ["ended"]


def test_a_hand_back_that_fails_keeps_nothing_from_ending(active: set[Any]) -> None:
    active.add("a task that never ends")
    ended = threading.Event()
    StopDeadline(lambda: 0, lambda: 1 / 0, ended.set).begin()  # type: ignore[arg-type]
    assert ended.wait(AT_ONCE_S)


def test_what_runs_is_told_why_it_ends() -> None:
    running, call = RunningTasks(), Call()
    attempt: Any = SimpleNamespace(task_id="a" * 32, exec_timeout_s=60)
    with running.track(attempt, call):
        hand_back(SimpleNamespace(running=running))  # type: ignore[arg-type]
    assert call.stopped is StopReason.SHUTDOWN
    hand_back(None)


def test_a_worker_that_begins_to_stop_has_the_clock_started_whoever_has_asked(
    broker: Valkey, active: set[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(stopping, "end_process", ended.append)
    with worker_on(broker, {}, stop_grace_s=0.05) as worker, worker.runtime.running.track(worker.claim()) as call:
        active.add("a task")
        app: Any = SimpleNamespace(settings=worker.runtime.settings)
        step = StopStep(SimpleNamespace(app=app, exitcode=1))
        step.start(SimpleNamespace(app=app, exitcode=1))
        step.close(None)  # type: ignore[arg-type]
        eventually(lambda: call.stopped is StopReason.SHUTDOWN)
        eventually(lambda: ended == [1])


#: A worker whose main thread waits for ever, in C, with the real clock and the real end.
STUCK = """
import select, signal
from celery import signals
from graycat.settings import Settings
from types import SimpleNamespace
from graycat.worker import stopping
stopping.LAST_S = 0.2
worker = SimpleNamespace(app=SimpleNamespace(settings=Settings()), exitcode=None)
stopping.StopStep(worker).start(worker)
signal.signal(signal.SIGTERM, lambda *_: signals.worker_shutting_down.send(sender="it"))
print("stuck", flush=True)
while True:
    select.select([], [], [])
"""


def test_a_process_whose_main_thread_waits_for_ever_ends_all_the_same() -> None:
    with subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "stuck\n"
        process.send_signal(signal.SIGTERM)
        eventually(lambda: process.poll() is not None)
    assert process.returncode == 0
