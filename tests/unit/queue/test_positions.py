from __future__ import annotations

import pytest

from graycat.queue.errors import EventsGone, EventUnknown
from graycat.queue.events import CHUNK, ERROR, RESTARTED, RESULT, STARTED, TaskEvent
from graycat.queue.positions import Surroundings, check_position

FIRST = TaskEvent("100-0", STARTED, b"1")
SECOND = TaskEvent("100-1", CHUNK, b"data: 1\n\n")
AGAIN = TaskEvent("200-0", STARTED, b"2")
LATER = TaskEvent("200-1", CHUNK, b"data: 2\n\n")
ANEW = TaskEvent("200-1", RESTARTED, b"2")
LAST = TaskEvent("300-0", RESULT, b"200 {}")
REFUSED = TaskEvent("300-0", ERROR, b"503 {}")


def outcome(after: str, *stream: TaskEvent, is_over: bool = False, last_id: str = "") -> str:
    """Return what a reader is told that goes on behind ``after`` in a stream of these events."""
    position = tuple(int(number) for number in f"{after}-0".split("-")[:2])
    before = [event for event in stream if event.order <= position]
    around = Surroundings(stream[:2], before[-1] if before else None)
    try:
        check_position(after, around, is_over=is_over, last_id=last_id)
    except EventUnknown:
        return "unknown"
    except EventsGone as error:
        return f"gone {str(error).rpartition('=')[2]}" if "?after=" in str(error) else "gone"
    return "goes on"


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ("0", "goes on"),
        ("0-0", "goes on"),
        ("100", "goes on"),
        ("100-1", "goes on"),
        # The broker has lost the newest chunks of this attempt; its worker goes on behind them.
        ("100-7", "goes on"),
        ("99-9", "unknown"),
        ("101-0", "unknown"),
        ("9999999999999-0", "unknown"),
    ],
)
def test_a_running_task_s_reader_goes_on_behind_its_events_only(after: str, expected: str) -> None:
    assert outcome(after, FIRST, SECOND) == expected


@pytest.mark.parametrize(
    ("after", "expected"),
    [("0", "goes on"), ("100-1", "goes on"), ("300-0", "goes on"), ("100-7", "unknown"), ("300-1", "unknown")],
)
def test_a_reader_of_a_task_that_has_ended_waits_for_nothing(after: str, expected: str) -> None:
    assert outcome(after, FIRST, SECOND, LAST, is_over=True) == expected


@pytest.mark.parametrize("after", ["0", "100-0", "100-5", "7-7"])
def test_whoever_read_an_answer_that_begins_anew_is_told_that_it_does(after: str) -> None:
    assert outcome(after, AGAIN, ANEW, SECOND) == "goes on"


@pytest.mark.parametrize(
    ("head", "gone"), [((SECOND, LAST), "gone 100-0"), ((AGAIN, LATER), "gone 199-9999999999999999999")]
)
def test_a_stream_without_its_beginning_is_not_read_as_if_it_were_whole(head: tuple[TaskEvent, ...], gone: str) -> None:
    assert outcome("0", *head) == gone
    assert outcome("99-0", *head) == gone
    assert outcome(gone.removeprefix("gone "), *head) == "goes on"


def test_a_reader_who_has_all_that_was_dropped_goes_on() -> None:
    assert outcome("100-0", SECOND, LAST) == "goes on"
    assert outcome("100-1", SECOND, LAST) == "goes on"


def test_a_task_that_never_began_has_its_end_alone() -> None:
    assert outcome("0", REFUSED, is_over=True) == "goes on"
    assert outcome("5-0", REFUSED, is_over=True) == "unknown"


def test_a_task_without_events_has_not_begun_or_is_over() -> None:
    assert outcome("0") == "goes on"
    assert outcome("100-0") == "unknown"
    assert outcome("0", is_over=True, last_id="300-0") == "gone"
    assert outcome("100-0", is_over=True, last_id="300-0") == "gone"
    assert outcome("300-0", is_over=True, last_id="300-0") == "goes on"
    assert outcome("300-0", is_over=True) == "gone"
