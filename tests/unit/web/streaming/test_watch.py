"""A watch by itself: waiting, order, and the way past a waiting request."""

from __future__ import annotations

import pytest

from graycat.queue.events import TaskEvent
from graycat.web.streaming.hub import Subscription
from tests.support.helpers import AT_ONCE_S, PATIENCE_S, Stopwatch, outcome_of


def test_waiting_ends_when_the_time_is_up() -> None:
    clock = Stopwatch()
    assert Subscription("a").get(0.05) is None
    assert 0.04 < clock.seconds < AT_ONCE_S


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
def test_a_deadline_that_has_passed_is_no_mistake(timeout_s: float) -> None:
    assert Subscription("a").get(timeout_s) is None


def test_who_waits_can_be_woken() -> None:
    watch = Subscription("a")
    woken = outcome_of(lambda: watch.get(PATIENCE_S))
    clock = Stopwatch()
    watch.wake()
    assert woken() is None
    assert clock.seconds < AT_ONCE_S


@pytest.mark.parametrize("later", ["5-1", "5-0", "4-9"])
def test_an_event_that_came_before_is_not_taken_again(later: str) -> None:
    watch = Subscription("a")
    watch.put(TaskEvent("5-1", "chunk", b"first"))
    watch.put(TaskEvent(later, "chunk", b"again"))
    assert watch.get(1) == TaskEvent("5-1", "chunk", b"first")
    assert watch.get(0) is None
    assert watch.last_id == "5-1"


class Outlet:
    """A spout that notes what goes its way."""

    def __init__(self, *, full: bool = False) -> None:
        self.sent: list[bytes] = []
        self.rest = b""
        self._full = full

    def send(self, event: bytes) -> bool:
        if not self._full:
            self.sent.append(event)
        return not self._full


def told(watch: Subscription, *events: tuple[str, bytes]) -> None:
    for number, (kind, data) in enumerate(events, 1):
        watch.put(TaskEvent(f"1-{number}", kind, data))


def test_chunks_go_past_a_request_that_waits_and_everything_else_comes_to_it() -> None:
    watch, outlet = Subscription("a"), Outlet()
    watch.direct = outlet  # type: ignore[assignment]
    told(watch, ("chunk", b"1"), ("chunk", b"2"), ("result", b"200 "), ("chunk", b"late"))
    assert outlet.sent == [b"1", b"2"]
    assert [event.data for event in (watch.get(0), watch.get(0)) if event] == [b"200 ", b"late"]


def test_an_event_that_came_before_does_not_go_past_again() -> None:
    watch, outlet = Subscription("a"), Outlet()
    watch.direct = outlet  # type: ignore[assignment]
    told(watch, ("chunk", b"1"))
    told(watch, ("chunk", b"1"), ("chunk", b"2"))
    assert outlet.sent == [b"1", b"2"]


def test_where_the_way_past_is_full_chunks_come_to_the_request() -> None:
    watch = Subscription("a")
    watch.direct = Outlet(full=True)  # type: ignore[assignment]
    told(watch, ("chunk", b"1"), ("chunk", b"2"))
    assert [event.data for event in (watch.get(0), watch.get(0)) if event] == [b"1", b"2"]


def test_a_chunk_that_was_half_sent_wakes_the_request() -> None:
    watch, outlet = Subscription("a"), Outlet()
    watch.direct, outlet.rest = outlet, b"half"  # type: ignore[assignment]
    told(watch, ("chunk", b"1"))
    assert (watch.empty, watch.get(PATIENCE_S)) == (False, None)
