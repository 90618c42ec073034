"""The threads of loops that serve many callers: their heartbeats, and the guard that restarts one that ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from graycat.loops.names import THREADS
from graycat.loops.unexpected import note

#: Seconds until a loop that ended is started again; doubled each time up to the maximum.
FIRST_PAUSE_S, MAX_PAUSE_S = 0.1, 2.0
#: After so many seconds without an end, its earlier ends no longer count.
STEADY_AFTER_S = 10.0
#: A loop that ends so many times in a row serves nobody, although it is started again each time.
MAX_ENDS = 3


class LoopEndedError(Exception):
    """A loop returned although nobody had asked it to."""


class GuardedThread:
    """A thread that runs a loop, and runs it again if it ends although nobody asked it to.

    The loop is at an item from each ``beat`` until the next one, or until ``rest``, which it calls before it waits for
    as long as it takes. It calls one of them when it starts. Both cost the writing of a number, so a loop may call them
    for each token.
    """

    def __init__(self, name: str, run: Callable[[], None]) -> None:
        """``name``: one of THREADS. ``run`` may be called several times; it returns after ``request_stop``."""
        kind = THREADS[name]
        self.name = name
        self.vital = kind.vital
        self.stuck_after_s = kind.stuck_after_s
        #: Since when it has been at an item (monotonic clock); 0 while it waits for one.
        self.busy_since = 0.0
        self._run = run
        self._stop_requested = threading.Event()
        self._ends = 0
        self._ended_at = 0.0
        self._thread = threading.Thread(target=self._guard, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        _started[id(self)] = self
        self._thread.start()

    def beat(self) -> None:
        """Note that the loop begins an item."""
        self.busy_since = time.monotonic()

    def rest(self) -> None:
        """Note that the loop waits for an item."""
        self.busy_since = 0.0

    def request_stop(self) -> None:
        """Have the loop not be started again; returns at once. A loop that waits must be woken by its owner."""
        self._stop_requested.set()
        _started.pop(id(self), None)

    @property
    def stop_requested(self) -> bool:
        """Return whether the loop is to return."""
        return self._stop_requested.is_set()

    def wait_for_stop(self, timeout_s: float) -> bool:
        """Wait for ``request_stop``; return whether it was called within the time."""
        return self._stop_requested.wait(timeout_s)

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until a thread that was started has ended, at most ``timeout_s``."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    @property
    def stuck(self) -> bool:
        """Return whether it is at one item for too long, is gone, or ends again and again."""
        if self.stop_requested:
            return False
        now = time.monotonic()
        # Read once: the loop writes it meanwhile.
        busy_since = self.busy_since
        if busy_since and now - busy_since > self.stuck_after_s:
            return True
        if self._ends >= MAX_ENDS and now - self._ended_at < STEADY_AFTER_S:
            return True
        return not self._thread.is_alive()

    def _guard(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self.stop_requested:
            try:
                self._run()
                error: BaseException = LoopEndedError()
            except BaseException as raised:  # noqa: BLE001 (whatever ends it, others wait for what it does)
                error = raised
            if self.stop_requested:
                return
            note(self.name, error)
            now = time.monotonic()
            if now - self._ended_at > STEADY_AFTER_S:
                self._ends = 0
                pause_s = FIRST_PAUSE_S
            self._ends += 1
            self._ended_at = now
            self._stop_requested.wait(pause_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)


#: The threads of this process that were started and not asked to stop, by their identities.
_started: dict[int, GuardedThread] = {}


def stuck_loops() -> list[str]:
    """Return the names of this process' loops that are stuck or gone."""
    return sorted({loop.name for loop in list(_started.values()) if loop.stuck})


def is_held_up() -> bool:
    """Return whether this process can serve nothing, because a loop that it needs for that is stuck or gone."""
    return any(loop.vital and loop.stuck for loop in list(_started.values()))
