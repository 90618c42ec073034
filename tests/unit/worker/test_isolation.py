from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from graycat.worker.isolation import APART_S, NEVER_CLEARED_DEATHS, PROBATION_S, EngineAccess
from tests.support.helpers import PATIENCE_S, eventually


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class OnEngine:
    """A task that is on the engine, or waits for it, in a thread of its own."""

    def __init__(self, access: EngineAccess, deaths: int = 0) -> None:
        self.asked_to_stop = False
        self.entered: bool | None = None
        self._leave = threading.Event()
        self._access, self._deaths = access, deaths
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self._access.enter(self._deaths, lambda: self.asked_to_stop) as entered:
            self.entered = entered
            if entered:
                self._leave.wait(PATIENCE_S)

    def leave(self) -> None:
        self._leave.set()
        self._thread.join(PATIENCE_S)

    def is_on(self) -> bool:
        eventually(lambda: self.entered is not None)
        return bool(self.entered)

    def waits(self) -> bool:
        """Return whether it has not entered in the time in which it would have."""
        self._thread.join(0.25)
        return self.entered is None


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def access(clock: Clock) -> EngineAccess:
    return EngineAccess(clock)


@pytest.fixture
def new(access: EngineAccess) -> Callable[..., OnEngine]:
    return lambda deaths=0: OnEngine(access, deaths)


def test_any_number_shares_the_engine(new) -> None:
    tasks = [new() for _ in range(5)]
    assert all(task.is_on() for task in tasks)
    for task in tasks:
        task.leave()


def test_a_suspect_waits_for_the_others_and_has_the_engine_to_itself(new) -> None:
    other = new()
    assert other.is_on()
    suspect = new(1)
    assert suspect.waits()
    late = new()
    assert late.waits()
    other.leave()
    assert suspect.is_on()
    assert late.waits()
    suspect.leave()
    assert late.is_on()
    late.leave()


def test_two_suspects_run_one_after_the_other(new) -> None:
    first = new(1)
    assert first.is_on()
    second = new(1)
    assert second.waits()
    first.leave()
    assert second.is_on()
    second.leave()


def test_a_suspect_that_has_passed_its_probation_shares_the_engine(new, clock: Clock) -> None:
    suspect = new(1)
    assert suspect.is_on()
    other = new()
    assert other.waits()
    clock.now += PROBATION_S
    assert other.is_on()
    suspect.leave()
    other.leave()


def test_one_that_was_there_too_often_is_alone_to_its_end(new, clock: Clock) -> None:
    suspect = new(NEVER_CLEARED_DEATHS)
    assert suspect.is_on()
    other = new()
    clock.now += 100 * PROBATION_S
    assert other.waits()
    suspect.leave()
    assert other.is_on()
    other.leave()


@pytest.mark.parametrize("deaths", [0, 1])
def test_one_that_is_cancelled_while_it_waits_never_enters(new, deaths: int) -> None:
    suspect = new(1)
    assert suspect.is_on()
    waiting = new(deaths)
    assert waiting.waits()
    waiting.asked_to_stop = True
    assert not waiting.is_on()
    suspect.leave()
    after = new()
    assert after.is_on()
    after.leave()


def test_tasks_that_leave_together_were_not_alone(new, access: EngineAccess, clock: Clock) -> None:
    first, second = new(), new()
    assert first.is_on()
    assert second.is_on()
    assert not access.is_alone()
    first.leave()
    # As of a moment ago there were two.
    assert not access.is_alone()
    clock.now += APART_S
    assert access.is_alone()
    second.leave()
