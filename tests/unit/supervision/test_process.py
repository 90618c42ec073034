from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import IO

import pytest

from graycat.fleet.processes import ProcessStatus
from graycat.supervision.process import (
    CRASH_LOOP_FAILURES,
    FIRST_BACKOFF_S,
    LAST_BACKOFF_S,
    RESET_AFTER_S,
    ProcessState,
    SupervisedProcess,
    describe_end,
)
from graycat.supervision.specs import ProcessSpec
from tests.support.helpers import eventually

FOREVER = "sleep 600"
NewProcess = Callable[..., SupervisedProcess]
#: The pipes of each process, by start.
outputs: dict[SupervisedProcess, list[IO[bytes]]] = {}


@pytest.fixture
def new_process() -> Iterator[NewProcess]:
    """Return how to make a process; each is killed at the end."""
    made: list[SupervisedProcess] = []
    pipes: list[IO[bytes]] = []

    def make(command: str, *, drainable: bool = False) -> SupervisedProcess:
        spec = ProcessSpec("a", command, drainable)
        made.append(SupervisedProcess(spec, os.environ, lambda _, pipe: pipes.append(pipe)))
        outputs[made[-1]] = pipes
        return made[-1]

    yield make
    for process in made:
        process.kill()
        process.stop()
        end(process, 0.0)
    for pipe in pipes:
        pipe.close()


def end(process: SupervisedProcess, now: float) -> None:
    """Step until the process has ended, by a clock that stands still."""

    def ended() -> bool:
        process.step(now)
        return process.gone

    eventually(ended)


def test_it_is_started_at_once_and_left_alone(new_process: NewProcess) -> None:
    process = new_process(FOREVER)
    assert process.step(0.0) is True
    pid = process.pid
    assert (process.step(1.0), process.pid, process.state) == (False, pid, ProcessState.RUNNING)
    assert process.status(1.0) == ProcessStatus("a", "running", pid)


def test_one_that_is_killed_is_started_again_after_a_moment(new_process: NewProcess) -> None:
    process = new_process(FOREVER)
    process.step(0.0)
    first = process.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    end(process, 10.0)
    assert (process.state, process.last_end) == (ProcessState.BACKING_OFF, "killed by SIGKILL")
    assert process.retry_in_s(10.0) == FIRST_BACKOFF_S
    assert process.step(10.0 + FIRST_BACKOFF_S / 2) is False
    assert process.step(10.0 + FIRST_BACKOFF_S) is True
    assert (process.state, process.restarts) == (ProcessState.RUNNING, 1)
    assert process.pid != first


@pytest.mark.parametrize("status", [0, 1])
def test_however_it_ends_it_is_started_again(new_process: NewProcess, status: int) -> None:
    process = new_process(f"{sys.executable} -c 'raise SystemExit({status})'")
    process.step(0.0)
    end(process, 1.0)
    assert (process.state, process.last_end) == (ProcessState.BACKING_OFF, f"exit status {status}")


def test_a_crash_loop_is_named_and_tried_ever_more_rarely(new_process: NewProcess) -> None:
    process, now = new_process("false"), 0.0
    waits = []
    for _ in range(10):
        process.step(now)
        end(process, now)
        waits.append(process.retry_in_s(now))
        now += waits[-1]
    assert process.state is ProcessState.CRASH_LOOP
    assert waits[:3] == [FIRST_BACKOFF_S, FIRST_BACKOFF_S * 2, FIRST_BACKOFF_S * 4]
    assert waits[-1] == LAST_BACKOFF_S


def test_a_command_that_does_not_exist_is_a_failure_like_any_other(new_process: NewProcess) -> None:
    process, now = new_process("/nowhere/graycat web"), 0.0
    for _ in range(CRASH_LOOP_FAILURES):
        assert process.step(now) is False
        now += LAST_BACKOFF_S
    assert process.state is ProcessState.CRASH_LOOP
    assert "No such file" in process.last_end


def test_one_that_has_run_for_long_has_its_failures_forgotten(new_process: NewProcess) -> None:
    process = new_process("false")
    for now in (0.0, LAST_BACKOFF_S):
        process.step(now)
        end(process, now)
    process.spec = ProcessSpec("a", FOREVER)
    started = 2 * LAST_BACKOFF_S
    process.step(started)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    end(process, started + RESET_AFTER_S)
    assert (process.state, process.retry_in_s(started + RESET_AFTER_S)) == (ProcessState.BACKING_OFF, FIRST_BACKOFF_S)


def test_a_worker_that_was_drained_stays_away(new_process: NewProcess) -> None:
    process = new_process("true", drainable=True)
    process.step(0.0)
    end(process, 1.0)
    assert process.state is ProcessState.DRAINED
    assert process.step(1000.0) is False
    assert process.gone


def test_a_worker_that_fails_was_not_drained(new_process: NewProcess) -> None:
    process = new_process("false", drainable=True)
    process.step(0.0)
    end(process, 1.0)
    assert process.state is ProcessState.BACKING_OFF


def test_one_that_is_asked_to_stop_stays_stopped(new_process: NewProcess) -> None:
    process = new_process(FOREVER)
    process.step(0.0)
    process.stop()
    end(process, 1.0)
    assert (process.state, process.step(1000.0)) == (ProcessState.STOPPED, False)


def test_one_that_waits_for_its_restart_is_stopped_at_once(new_process: NewProcess) -> None:
    process = new_process("false")
    process.step(0.0)
    end(process, 1.0)
    process.stop()
    assert (process.state, process.step(1000.0), process.gone) == (ProcessState.STOPPED, False, True)


def test_a_kill_ends_what_it_has_started_too(new_process: NewProcess) -> None:
    process = new_process("sh -c 'sleep 601 & echo $!; wait'")
    process.step(0.0)
    grandchild = int(outputs[process][-1].readline())
    process.kill()
    end(process, 1.0)

    def gone() -> bool:
        try:
            os.kill(grandchild, 0)
        except ProcessLookupError:
            return True
        with open(f"/proc/{grandchild}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"

    eventually(gone)


@pytest.mark.parametrize(("status", "text"), [(0, "exit status 0"), (-9, "killed by SIGKILL"), (-36, "signal 36")])
def test_an_end_is_told_in_words(status: int, text: str) -> None:
    assert text in describe_end(status)
