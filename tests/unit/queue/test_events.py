from __future__ import annotations

import pytest

from graycat.errors import EngineProtocolError
from graycat.queue import events
from graycat.queue.events import TaskEvent


def test_a_push_keeps_every_byte_of_its_data() -> None:
    assert TaskEvent.from_push(b"abc 17-3 chunk data: a  b \n\n\xff ") == (
        "abc",
        TaskEvent("17-3", "chunk", b"data: a  b \n\n\xff "),
    )


def test_a_push_may_be_without_data() -> None:
    assert TaskEvent.from_push(b"abc 17-3 cancelled ") == ("abc", TaskEvent("17-3", "cancelled", b""))


def test_a_stream_entry_becomes_its_event() -> None:
    assert TaskEvent.from_stream(b"17-3", {b"kind": b"started", b"data": b"2"}) == TaskEvent("17-3", "started", b"2")


@pytest.mark.parametrize(("earlier", "later"), [("9-9", "9-10"), ("9-9", "10-0"), ("0-1", "1-0")])
def test_events_are_ordered_by_number_not_by_text(earlier: str, later: str) -> None:
    assert TaskEvent(earlier, "chunk", b"").order < TaskEvent(later, "chunk", b"").order


@pytest.mark.parametrize("kind", ["result", "error", "cancelled"])
def test_three_kinds_end_a_task(kind: str) -> None:
    assert TaskEvent("1-0", kind, b"").terminal


@pytest.mark.parametrize("kind", ["started", "chunk"])
def test_the_others_do_not(kind: str) -> None:
    assert not TaskEvent("1-0", kind, b"").terminal


@pytest.mark.parametrize("body", [b"", b"{}", b'{"text": "a b"}\n', b" leading"])
def test_an_answer_comes_back_as_it_was(body: bytes) -> None:
    assert TaskEvent("1-0", "result", events.answer(207, body)).answer() == (207, body)


@pytest.mark.parametrize(
    "data", [b"", b"x", b"{}", b"99 {}", b"100 {}", b"600 {}", b"-200 {}", b"2000 {}", b" 200 {}", b"\xff\xff\xff"]
)
def test_an_answer_without_a_status_is_nonsense(data: bytes) -> None:
    with pytest.raises(EngineProtocolError):
        TaskEvent("1-0", "result", data).answer()


def test_an_answer_that_is_longer_than_any_is_nonsense() -> None:
    with pytest.raises(EngineProtocolError):
        TaskEvent("1-0", "result", b"200 " + b"x" * (events.MAX_ANSWER_BYTES + 1)).answer()


@pytest.mark.parametrize("entry", [{}, {b"kind": b"\xff"}, {b"data": b"x"}, {b"other": b"x"}])
def test_a_stream_entry_of_another_form_is_of_no_kind(entry: dict[bytes, bytes]) -> None:
    event = TaskEvent.from_stream(b"17-3", entry)
    assert not event.terminal
    assert event.kind not in ("chunk", "started", "progress")
