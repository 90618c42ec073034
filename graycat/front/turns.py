"""Whose request begins next, when many come at once: a few between two looks at the sockets, and each address in turn.

Without this, all requests that have come would run one after the other before the event loop looks at its sockets
again. Tokens of streams, and ``/health``, would wait for all of them. Connections that have waited for their clients
take turns, too: thousands may send a byte, or close, at the same moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event
from gevent.hub import Waiter

#: Requests that begin between two looks at the sockets.
PER_ROUND = 4
#: Connections that go on, after they waited for their clients, between two looks at the sockets. For most of them it is
#: a head to parse, or their end: a tenth of a millisecond each.
WOKEN_PER_ROUND = 64


class Queue:
    """What waits to begin, by address; each address has its turn, and what it sent keeps its order."""

    def __init__(self) -> None:
        # The address whose turn is next is in front.
        self._waiting: dict[str, deque[Callable[[], object]]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, source: str, begin: Callable[[], object]) -> None:
        """Add something of an address; ``begin`` is called when its turn comes."""
        self._waiting.setdefault(source, deque()).append(begin)

    def begin_next(self) -> None:
        """Let the next one begin."""
        source = next(iter(self._waiting))
        waiting = self._waiting.pop(source)
        begin = waiting.popleft()
        if waiting:
            # Behind all others.
            self._waiting[source] = waiting
        begin()


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
        if self._takes_one(queue):
            return
        turn = Event()
        queue.add(source, turn.set)
        turn.wait()

    def call(self, source: str, begin: Callable[[], object]) -> None:
        """Call ``begin`` when the turn of its address comes, in the event loop; perhaps at once."""
        if self._takes_one(self._usual):
            begin()
        else:
            self._usual.add(source, begin)

    def _takes_one(self, queue: Queue) -> bool:
        """Return whether one more may begin in this round, before all in the queue."""
        self._start_round()
        if self._begun >= self._per_round or queue:
            return False
        self._begun += 1
        return True

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


class WaiterInTurn(Waiter):  # type: ignore[type-arg]  # when it runs, gevent's class takes none
    """What a greenlet waits with until its socket is ready, and its address has its turn."""

    def __init__(self, watcher: Any, turns: Turns, source: str) -> None:
        super().__init__()
        self._watcher = watcher
        self._turns = turns
        self._source = source
        self._is_ready = self._is_hurried = False

    def wait(self) -> None:
        """Return when it is so."""
        # A method of this waiter: gevent throws into it if the socket is closed meanwhile.
        self._watcher.start(self._note_ready)
        try:
            self.get()
        finally:
            self._watcher.stop()

    def _note_ready(self) -> None:
        # Or the event loop would report it again and again until its turn.
        self._watcher.stop()
        self._is_ready = True
        if self._is_hurried:
            self._go_on()
        else:
            self._turns.call(self._source, self._go_on)

    def hurry(self) -> None:
        """Need no turn from now on: the connection was cut, and holds a file until its greenlet ends."""
        self._is_hurried = True
        if self._is_ready:
            self.hub.loop.run_callback(self._go_on)

    def _go_on(self) -> None:
        # Nobody hears it if the greenlet goes on already.
        self.switch(None)
