from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from graycat.client import Client, Event, UnexpectedReply, Unreachable
from tests.support.scripted import error, line, respond_in_turn, respond_with
from tests.support.servers import Answer, Handler, drop, http_server, stream

RUNNING = respond_with(200, {"id": "a1", "kind": "llm.completion", "state": "running"})
SUCCEEDED = respond_with(200, {"id": "a1", "kind": "llm.completion", "state": "succeeded"})
ONE, TWO = line("1-1", "chunk", {"content": "a"}), line("1-2", "chunk", {"content": "b"})
LAST = line("2-0", "result", {"status": 200})
IDS = ["1-1", "1-2", "2-0"]


@pytest.fixture
def read() -> Callable[..., Any]:
    """Return a function that reads the events of a task from a server with these answers, one after the other."""

    def read_events(
        *answers: Answer, task: Answer = RUNNING, seen: list[dict[str, str]] | None = None, patience_s: float = 5.0
    ) -> list[Event]:
        script = {"GET /tasks/a1": task, "GET /tasks/a1/events?format=ndjson": respond_in_turn(*answers, seen=seen)}
        with http_server(script) as server, Client(server.url, patience_s=patience_s) as client:
            return list(client.task("a1").events())

    return read_events


def ids(events: list[Event]) -> list[str]:
    return [event.id for event in events]


def test_a_line_that_was_cut_in_the_middle_comes_complete_and_once(read) -> None:
    seen: list[dict[str, str]] = []
    assert ids(read(stream(ONE, TWO[:20], then=drop), stream(TWO + LAST), seen=seen)) == IDS
    assert [headers.get("Last-Event-Id") for headers in seen] == [None, "1-1"]


def test_a_line_without_a_newline_is_dropped(read) -> None:
    assert ids(read(stream(ONE + TWO[:-1]), stream(TWO, LAST))) == IDS


def test_an_event_that_comes_twice_is_yielded_once(read) -> None:
    assert ids(read(stream(ONE, ONE, TWO, then=drop), stream(ONE, TWO, LAST))) == IDS


def test_a_blank_line_is_no_event(read) -> None:
    assert ids(read(stream(b"\n", ONE, b"\n\n", TWO, LAST))) == IDS


def test_an_event_of_the_server_itself_does_not_end_the_task(read) -> None:
    stops = line("", "error", {"status": 503, "error": {"type": "shutting_down"}})
    assert ids(read(stream(ONE, stops), error(503, "shutting_down"), stream(TWO, LAST))) == IDS


def test_a_task_that_ended_without_a_last_event_is_read_once_more(read) -> None:
    seen: list[dict[str, str]] = []
    task = respond_in_turn(RUNNING, SUCCEEDED)
    assert ids(read(stream(ONE), stream(TWO), task=task, seen=seen)) == IDS[:2]
    assert len(seen) == 2


def test_a_broken_connection_is_resumed_even_if_the_task_is_over(read) -> None:
    assert ids(read(stream(ONE, then=drop), stream(TWO, LAST), task=SUCCEEDED)) == IDS


def test_an_answer_204_is_the_end(read) -> None:
    assert read(respond_with(204), task=SUCCEEDED) == []


def test_a_server_that_breaks_every_connection_is_unreachable(read, pauses) -> None:
    with pytest.raises(Unreachable, match="breaks every connection"):
        read(stream(ONE, then=drop), stream(b"", then=drop), patience_s=0.2)
    assert len(pauses) > 2


def test_a_stream_without_chunks_comes_as_it_is_written(read) -> None:
    def old_proxy(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(ONE + TWO + LAST)

    assert ids(read(old_proxy)) == IDS


@pytest.mark.parametrize("nonsense", [b"<h1>It works!</h1>\n", b"[]\n", line("x", "chunk", {}), b'{"id": "1-0"}\n'])
def test_an_invalid_event_is_an_unexpected_reply(read, nonsense: bytes) -> None:
    with pytest.raises(UnexpectedReply):
        read(stream(nonsense))
