"""Whose request begins next, when many come at once: a few between two looks at the sockets, and each address in turn.

Without this, all requests that have come would run one after the other before the event loop looks at its sockets
again. Tokens of streams, and ``/health``, would wait for all of them.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import gevent
from gevent.event import Event

#: Requests that begin between two looks at the sockets.
PER_ROUND = 4


class Queue:
    """Requests that wait, by address; each address has its turn, and its own requests keep their order."""

    def __init__(self) -> None:
        # The address whose turn is next is in front.
        self._waiting: dict[str, deque[Event]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, source: str) -> Event:
        """Add a request of an address; the event is set when it may begin."""
        turn = Event()
        self._waiting.setdefault(source, deque()).append(turn)
        return turn

    def begin_next(self) -> None:
        """Let the next request begin."""
        source = next(iter(self._waiting))
        waiting = self._waiting.pop(source)
        waiting.popleft().set()
        if waiting:
            # Behind all others.
            self._waiting[source] = waiting


class Turns:
    """The turns of one web process. An idle process costs a request a timer, and no wait.

    ``per_round``: how many begin between two looks at the sockets.
    """

    def __init__(self, per_round: int = PER_ROUND) -> None:
        self._per_round = per_round
        self._urgent = Queue()
        self._usual = Queue()
        self._begun = 0
        # It is due at once: that is, after the event loop's next look at its sockets.
        self._round: Any = gevent.get_hub().loop.timer(0.0)
        self._is_round_due = False

    def wait(self, source: str, *, is_urgent: bool) -> None:
        """Return when a request of an address may begin; urgent ones go first."""
        queue = self._usual
        if is_urgent:
            queue = self._urgent
        if self._begun < self._per_round and not queue:
            self._begun += 1
            self._start_round()
            return
        turn = queue.add(source)
        self._start_round()
        turn.wait()

    def _start_round(self) -> None:
        if not self._is_round_due:
            self._is_round_due = True
            self._round.start(self._next_round)

    def _next_round(self) -> None:
        self._round.stop()
        self._is_round_due = False
        self._begun = 0
        # One at least of the usual ones, or a flood of urgent ones would hold them up for ever.
        self._begin(self._urgent, self._per_round)
        self._begin(self._usual, max(self._per_round - self._begun, 1))
        if self._begun:
            self._start_round()

    def _begin(self, queue: Queue, most: int) -> None:
        for _ in range(most):
            if not queue:
                return
            self._begun += 1
            queue.begin_next()

    def close(self) -> None:
        """Release the timer."""
        self._round.stop()
        self._round.close()
