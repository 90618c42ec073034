"""The guard of threads that serve many: a loop that ends runs again, and one that is stuck or gone is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from graycat.fleet.workers import SILENT_AFTER_S
from graycat.loops import threads
from graycat.loops.names import THREADS
from graycat.loops.threads import GuardedThread, is_held_up, stuck_loops
from graycat.loops.unexpected import UNEXPECTED
from graycat.web.services import WORKERS_CACHE_S
from graycat.worker.maintenance import REPORT_INTERVAL_S
from tests.support.helpers import PATIENCE_S, eventually


def count(name: str) -> float:
    value: float = UNEXPECTED.labels(name)._value.get()
    return value


@pytest.fixture
def start() -> Iterator[Callable[..., GuardedThread]]:
    """Return how to start a loop; all end with the test."""
    started: list[GuardedThread] = []

    def start_one(run: Callable[[GuardedThread], None], name: str = "gpu") -> GuardedThread:
        loop = GuardedThread(name, lambda: run(loop))
        started.append(loop)
        loop.start()
        return loop

    yield start_one
    for loop in started:
        loop.request_stop()
        loop.join(PATIENCE_S)


def test_a_loop_without_a_row_in_the_table_cannot_be_made() -> None:
    with pytest.raises(KeyError):
        GuardedThread("no such loop", lambda: None)


@pytest.mark.parametrize("error", [None, ValueError("a secret"), SystemExit(1)], ids=repr)
def test_a_loop_that_ends_runs_again(start, caplog: pytest.LogCaptureFixture, error: BaseException | None) -> None:
    before, turns = count("gpu"), []

    def run(loop: GuardedThread) -> None:
        turns.append(threading.current_thread())
        if len(turns) < 3:
            if error is not None:
                raise error
            return
        loop.wait_for_stop(PATIENCE_S)

    start(run)
    eventually(lambda: len(turns) == 3)
    assert count("gpu") == before + 2
    # The same thread: an engine dies with the one that has started it.
    assert len(set(turns)) == 1
    assert "secret" not in caplog.text


def test_a_loop_that_was_asked_to_stop_ends_and_is_not_counted(start) -> None:
    before = count("gpu")
    loop = start(lambda loop: loop.wait_for_stop(PATIENCE_S))
    loop.request_stop()
    loop.join(PATIENCE_S)
    assert not loop._thread.is_alive()
    assert (loop.stuck, count("gpu")) == (False, before)


def test_a_loop_that_waits_is_not_stuck_and_one_that_does_not_finish_an_item_is(start) -> None:
    loop = start(lambda loop: loop.wait_for_stop(PATIENCE_S))
    loop.stuck_after_s = 0.01
    loop.rest()
    assert "gpu" not in stuck_loops()
    loop.beat()
    eventually(lambda: "gpu" in stuck_loops())
    assert not is_held_up()
    loop.rest()
    assert "gpu" not in stuck_loops()


def test_a_loop_that_is_vital_holds_its_process_up(start) -> None:
    loop = start(lambda loop: loop.wait_for_stop(PATIENCE_S), "maintenance")
    loop.stuck_after_s = 0.01
    assert not is_held_up()
    loop.beat()
    eventually(is_held_up)


@pytest.mark.parametrize("name", ["hub", "stream relay", "maintenance", "control"])
def test_ready_says_so_within_ten_seconds(name: str) -> None:
    """A worker whose reports stop counts as missing; else its next report names the loop."""
    noticed_s = THREADS[name].stuck_after_s
    if name != "hub":
        noticed_s = max(noticed_s + REPORT_INTERVAL_S, SILENT_AFTER_S)
    assert noticed_s + WORKERS_CACHE_S < 10


def test_a_loop_that_ends_again_and_again_is_told(start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "FIRST_PAUSE_S", 0.001)
    broken = [True]

    def run(loop: GuardedThread) -> None:
        if broken:
            raise ValueError
        loop.wait_for_stop(PATIENCE_S)

    loop = start(run)
    eventually(lambda: "gpu" in stuck_loops())
    broken.clear()
    monkeypatch.setattr(threads, "STEADY_AFTER_S", 0.01)
    eventually(lambda: not loop.stuck)


def test_a_thread_that_is_gone_is_told(start, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    # The guard itself fails.
    monkeypatch.setattr(threads, "note", fail)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    loop = start(lambda _: None)
    eventually(lambda: "gpu" in stuck_loops())
    assert not loop._thread.is_alive()
