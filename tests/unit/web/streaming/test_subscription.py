"""A subscription by itself: waiting, order, and chunks that are written directly."""

from __future__ import annotations

import pytest

from graycat.queue.events import TaskEvent
from graycat.web.streaming.subscription import Subscription
from tests.support.helpers import AT_ONCE_S, PATIENCE_S, Stopwatch, outcome_of


def test_waiting_ends_when_the_time_is_up() -> None:
    clock = Stopwatch()
    assert Subscription("a").get(0.05) is None
    assert 0.04 < clock.seconds < AT_ONCE_S


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
def test_a_timeout_that_has_passed_returns_at_once(timeout_s: float) -> None:
    assert Subscription("a").get(timeout_s) is None


def test_wake_ends_the_wait() -> None:
    subscription = Subscription("a")
    woken = outcome_of(lambda: subscription.get(PATIENCE_S))
    clock = Stopwatch()
    subscription.wake()
    assert woken() is None
    assert clock.seconds < AT_ONCE_S


@pytest.mark.parametrize("later", ["5-1", "5-0", "4-9"])
def test_an_event_that_came_before_is_not_taken_again(later: str) -> None:
    subscription = Subscription("a")
    subscription.put(TaskEvent("5-1", "chunk", b"first"))
    subscription.put(TaskEvent(later, "chunk", b"again"))
    assert subscription.get(1) == TaskEvent("5-1", "chunk", b"first")
    assert subscription.get(0) is None
    assert subscription.last_id == "5-1"


class RecordingWriter:
    """A direct writer that records what is written with it."""

    def __init__(self, *, full: bool = False) -> None:
        self.sent: list[bytes] = []
        self.unsent = b""
        self._full = full

    def write(self, event: bytes) -> bool:
        if not self._full:
            self.sent.append(event)
        return not self._full


def put_events(subscription: Subscription, *events: tuple[str, bytes]) -> None:
    for number, (kind, data) in enumerate(events, 1):
        subscription.put(TaskEvent(f"1-{number}", kind, data))


def test_chunks_are_written_directly_and_other_events_are_queued() -> None:
    subscription, writer = Subscription("a"), RecordingWriter()
    subscription.writer = writer  # type: ignore[assignment]
    put_events(subscription, ("chunk", b"1"), ("chunk", b"2"), ("result", b"200 "), ("chunk", b"late"))
    assert writer.sent == [b"1", b"2"]
    assert [event.data for event in (subscription.get(0), subscription.get(0)) if event] == [b"200 ", b"late"]


def test_an_event_is_not_written_twice() -> None:
    subscription, writer = Subscription("a"), RecordingWriter()
    subscription.writer = writer  # type: ignore[assignment]
    put_events(subscription, ("chunk", b"1"))
    put_events(subscription, ("chunk", b"1"), ("chunk", b"2"))
    assert writer.sent == [b"1", b"2"]


def test_chunks_are_queued_if_the_socket_is_full() -> None:
    subscription = Subscription("a")
    subscription.writer = RecordingWriter(full=True)  # type: ignore[assignment]
    put_events(subscription, ("chunk", b"1"), ("chunk", b"2"))
    assert [event.data for event in (subscription.get(0), subscription.get(0)) if event] == [b"1", b"2"]


def test_a_chunk_that_was_partly_written_wakes_the_request() -> None:
    subscription, writer = Subscription("a"), RecordingWriter()
    subscription.writer, writer.unsent = writer, b"half"  # type: ignore[assignment]
    put_events(subscription, ("chunk", b"1"))
    assert (subscription.empty, subscription.get(PATIENCE_S)) == (False, None)
