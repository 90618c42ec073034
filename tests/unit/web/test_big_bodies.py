from __future__ import annotations

import gevent
import pytest
from flask import Flask, g
from gevent.event import Event

from graycat.web.big_bodies import BIG_BODY_BYTES, wait_for_turn


class Steps:
    """Requests that each take some steps with a body, and the event loop's turns meanwhile."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self._app = Flask("steps")
        self._are_done = Event()

    def take(self, owner: str, count: int, size: int = BIG_BODY_BYTES) -> None:
        with self._app.app_context():
            g.owner = owner
            for _ in range(count):
                wait_for_turn(size)
                self.order.append(owner)

    def count_turns(self) -> None:
        """Note each turn of the event loop until the requests are done."""
        while not self._are_done.is_set():
            self.order.append("|")
            gevent.sleep(0.0)

    def run(self, *requests: tuple[str, int]) -> str:
        """Return the owners of the steps in their order, with a bar for each turn of the event loop."""
        loop = gevent.spawn(self.count_turns)
        running = [gevent.spawn(self.take, *request) for request in requests]
        gevent.joinall(running, timeout=20, raise_error=True)
        self._are_done.set()
        loop.join(timeout=20)
        return "".join(self.order)


def test_one_step_of_all_requests_runs_in_a_turn_of_the_event_loop() -> None:
    order = Steps().run(("a", 5), ("b", 5), ("c", 5))
    assert all(len(steps) <= 1 for steps in order.split("|")), order
    assert order.count("a") == order.count("b") == order.count("c") == 5


def test_who_sends_many_bodies_waits_for_its_own() -> None:
    order = Steps().run(*[("m", 3)] * 20, ("o", 3)).replace("|", "")
    assert order.rindex("o") < 9, order


@pytest.mark.parametrize(("size", "switches"), [(BIG_BODY_BYTES - 1, False), (BIG_BODY_BYTES, True)])
def test_a_small_body_waits_for_nobody(size: int, switches: bool) -> None:
    steps = Steps()
    other = gevent.spawn(steps.order.append, "|")
    steps.take("a", 3, size)
    assert ("|" in steps.order) is switches
    other.join(timeout=20)
