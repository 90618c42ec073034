from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import gevent
import gevent.socket
import pytest
from gevent.event import Event

from graycat.front.turns import PER_ROUND, Turns, WaiterInTurn
from tests.support.helpers import PATIENCE_S
from tests.support.rounds import each_look, largest_step


class Begun:
    """Requests that come at the same moment, and the order in which they begin."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.order: list[str] = []
        #: How many had begun when the first request of each address came.
        self.before: dict[str, int] = {}
        self._running: list[gevent.Greenlet[..., None]] = []

    def come(self, source: str, count: int, *, is_urgent: bool = False) -> None:
        for _ in range(count):
            self._running.append(gevent.spawn(self._begin, source, is_urgent))

    def _begin(self, source: str, is_urgent: bool) -> None:
        self.before.setdefault(source, len(self.order))
        self.turns.wait(source, is_urgent=is_urgent)
        self.order.append(source)

    def all(self) -> list[str]:
        """Return the order in which all have begun."""
        gevent.joinall(self._running, timeout=PATIENCE_S, raise_error=True)
        return self.order

    def overtaken(self, source: str) -> int:
        """Return how many others began while the first request of an address waited.

        Rounds may begin before all requests have come: gevent looks at its sockets after some milliseconds.
        """
        return self.order.index(source) - self.before[source]


@pytest.fixture
def begun() -> Iterator[Begun]:
    found = Begun()
    yield found
    found.turns.close()


def test_an_idle_process_lets_a_request_begin_at_once(begun: Begun) -> None:
    for _ in range(3):
        begun.turns.wait("a", is_urgent=False)


def test_each_address_has_its_turn(begun: Begun) -> None:
    begun.come("many", 100)
    begun.come("few", 2)
    begun.come("one", 1)
    order = begun.all()
    assert len(order) == 103
    assert max(begun.overtaken("one"), begun.overtaken("few")) <= 4 * PER_ROUND


def test_what_is_urgent_does_not_wait_and_holds_nobody_up_for_ever(begun: Begun) -> None:
    begun.come("usual", 50)
    begun.come("urgent", 200, is_urgent=True)
    order = begun.all()
    assert begun.overtaken("urgent") <= 2 * PER_ROUND
    first = order.index("urgent")
    assert order.index("usual", first + 2 * PER_ROUND) < first + 4 * PER_ROUND


def test_between_two_rounds_the_sockets_are_looked_at(begun: Begun) -> None:
    with each_look(lambda: len(begun.order)) as seen:
        begun.come("many", 100)
        begun.all()
    assert largest_step(seen) <= 2 * PER_ROUND


def test_what_is_called_in_turn_is_called_at_once_or_a_few_between_two_looks(begun: Begun) -> None:
    called: list[int] = []
    last = Event()
    with each_look(lambda: len(called)) as seen:
        for number in range(50):
            begun.turns.call("a", partial(called.append, number))
        assert called == list(range(PER_ROUND))
        begun.turns.call("a", last.set)
        assert last.wait(20)
    assert called == list(range(50))
    assert largest_step(seen) <= 2 * PER_ROUND


def test_who_waits_for_a_socket_and_a_turn_is_thrown_out_when_the_socket_is_closed(begun: Begun) -> None:
    ours, theirs = gevent.socket.socketpair()
    watcher: Any = ours._read_event  # type: ignore[attr-defined]  # its types leave it out
    waiter = gevent.spawn(WaiterInTurn(watcher, begun.turns, "a").wait)
    gevent.idle()
    ours.close()
    with pytest.raises(OSError, match="closed"):
        waiter.get(timeout=20)
    theirs.close()
