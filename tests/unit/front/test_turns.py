from __future__ import annotations

from collections.abc import Callable, Iterator

import gevent
import pytest

from graycat.front.turns import PER_ROUND, Turns


class Begun:
    """Requests that come at the same moment, and the order in which they begin."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.order: list[str] = []
        self._running: list[gevent.Greenlet[..., None]] = []

    def come(self, source: str, count: int, *, is_urgent: bool = False) -> None:
        for _ in range(count):
            self._running.append(gevent.spawn(self._begin, source, is_urgent))

    def _begin(self, source: str, is_urgent: bool) -> None:
        self.turns.wait(source, is_urgent=is_urgent)
        self.order.append(source)

    def all(self) -> list[str]:
        """Return the order in which all have begun."""
        gevent.joinall(self._running, timeout=20, raise_error=True)
        return self.order


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
    assert max(order.index("one"), order.index("few")) <= 3 * PER_ROUND


def test_what_is_urgent_does_not_wait_and_holds_nobody_up_for_ever(begun: Begun) -> None:
    begun.come("usual", 50)
    begun.come("urgent", 200, is_urgent=True)
    order = begun.all()
    assert order.index("urgent") <= 3 * PER_ROUND
    assert order.index("usual", 3 * PER_ROUND) < 100


def test_between_two_rounds_the_sockets_are_looked_at(begun: Begun) -> None:
    """A timer that is due is served between two rounds, as a socket would be."""
    seen_after: list[int] = []
    loop = gevent.get_hub().loop
    timer = loop.timer(0.0, repeat=0.0001)
    look: Callable[[], None] = lambda: seen_after.append(len(begun.order))  # noqa: E731
    timer.start(look)
    begun.come("many", 100)
    begun.all()
    timer.stop()
    timer.close()
    steps = {later - earlier for earlier, later in zip(seen_after, seen_after[1:], strict=False)}
    assert max(steps) <= 2 * PER_ROUND
