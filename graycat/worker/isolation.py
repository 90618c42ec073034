"""Who shares the engine with whom: a task that was there when an engine died is a suspect, and runs apart from others.

An engine process may be ended by one of its requests. Which one cannot be told while several run. So each of them is
tried again alone: an innocent one passes in seconds, and the culprit ends the engine with no neighbour on it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: A suspect that has run alone for this many seconds shares the engine again. Requests that end an engine do so early.
PROBATION_S = 2.0
#: From so many deaths of engines on, a suspect is alone to its end.
NEVER_CLEARED_DEATHS = 3
#: A task counts as alone when an engine dies if no other has been on the engine for this many seconds: tasks that die
#: together leave one after the other.
APART_S = 1.0
#: Seconds between two looks at whether a waiting task was asked to stop.
STOP_CHECK_INTERVAL_S = 0.1


class EngineAccess:
    """Lets any number of tasks share the engine, or one suspect have it to itself. Any thread may use it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._changed = threading.Condition()
        self._clock = clock
        self._sharing = 0
        #: When the suspect that has the engine to itself is cleared; None if there is none.
        self._alone_until: float | None = None
        self._suspects_waiting = 0
        self._last_together = float("-inf")

    @contextmanager
    def enter(self, deaths: int, stopped: Callable[[], bool]) -> Iterator[bool]:
        """Hold a place on the engine during the block; False if the task was asked to stop before it got one.

        ``deaths``: at how many deaths of engines the task was there; 0 for one that is no suspect.
        """
        if deaths == 0:
            entered = self._wait_to_share(stopped)
        else:
            entered = self._wait_to_be_alone(deaths, stopped)
        try:
            yield entered
        finally:
            if entered:
                self._leave(deaths)

    def is_alone(self) -> bool:
        """Return whether one task at most has been on the engine lately."""
        with self._changed:
            return self._sharing <= 1 and self._clock() - self._last_together >= APART_S

    def _wait_to_share(self, stopped: Callable[[], bool]) -> bool:
        with self._changed:
            # Suspects go first: while one waits, nobody new comes between.
            while self._suspects_waiting or self._is_reserved():
                if stopped():
                    return False
                self._changed.wait(STOP_CHECK_INTERVAL_S)
            self._sharing += 1
            self._note_company()
            return True

    def _wait_to_be_alone(self, deaths: int, stopped: Callable[[], bool]) -> bool:
        with self._changed:
            self._suspects_waiting += 1
            try:
                while self._sharing or self._is_reserved():
                    if stopped():
                        return False
                    self._changed.wait(STOP_CHECK_INTERVAL_S)
            finally:
                self._suspects_waiting -= 1
                self._changed.notify_all()
            self._sharing += 1
            self._alone_until = float("inf")
            if deaths < NEVER_CLEARED_DEATHS:
                self._alone_until = self._clock() + PROBATION_S
            return True

    def _is_reserved(self) -> bool:
        return self._alone_until is not None and self._clock() < self._alone_until

    def _leave(self, deaths: int) -> None:
        with self._changed:
            self._note_company()
            self._sharing -= 1
            if deaths and self._sharing == 0:
                self._alone_until = None
            self._changed.notify_all()

    def _note_company(self) -> None:
        if self._sharing > 1:
            self._last_together = self._clock()
