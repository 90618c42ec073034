from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from graycat.client import Client, Event, UnexpectedReply, Unreachable
from tests.support.scripted import error, in_turn, line, says
from tests.support.servers import Answer, Handler, drop, http_server, stream

RUNNING = says(200, {"id": "a1", "kind": "llm.completion", "state": "running"})
OVER = says(200, {"id": "a1", "kind": "llm.completion", "state": "succeeded"})
ONE, TWO = line("1-1", "chunk", {"content": "a"}), line("1-2", "chunk", {"content": "b"})
LAST = line("2-0", "result", {"status": 200})
IDS = ["1-1", "1-2", "2-0"]


@pytest.fixture
def feed() -> Callable[..., Any]:
    """Return how to read the events of a server that answers in turn."""

    def read(
        *answers: Answer, task: Answer = RUNNING, seen: list[dict[str, str]] | None = None, patience_s: float = 5.0
    ) -> list[Event]:
        script = {"GET /tasks/a1": task, "GET /tasks/a1/events?format=ndjson": in_turn(*answers, seen=seen)}
        with http_server(script) as server, Client(server.url, patience_s=patience_s) as client:
            return list(client.task("a1").events())

    return read


def ids(events: list[Event]) -> list[str]:
    return [event.id for event in events]


def test_a_line_that_was_cut_in_the_middle_comes_whole_and_once(feed) -> None:
    seen: list[dict[str, str]] = []
    assert ids(feed(stream(ONE, TWO[:20], then=drop), stream(TWO + LAST), seen=seen)) == IDS
    assert [headers.get("Last-Event-Id") for headers in seen] == [None, "1-1"]


def test_a_line_that_ends_without_its_end_is_none(feed) -> None:
    assert ids(feed(stream(ONE + TWO[:-1]), stream(TWO, LAST))) == IDS


def test_what_comes_twice_is_told_once(feed) -> None:
    assert ids(feed(stream(ONE, ONE, TWO, then=drop), stream(ONE, TWO, LAST))) == IDS


def test_silence_is_no_event(feed) -> None:
    assert ids(feed(stream(b"\n", ONE, b"\n\n", TWO, LAST))) == IDS


def test_a_server_that_stops_speaks_for_itself_and_not_for_the_task(feed) -> None:
    stops = line("", "error", {"status": 503, "error": {"type": "shutting_down"}})
    assert ids(feed(stream(ONE, stops), error(503, "shutting_down"), stream(TWO, LAST))) == IDS


def test_a_task_that_ended_unheard_is_asked_once_more_and_then_has_no_more_to_tell(feed) -> None:
    seen: list[dict[str, str]] = []
    task = in_turn(RUNNING, OVER)
    assert ids(feed(stream(ONE), stream(TWO), task=task, seen=seen)) == IDS[:2]
    assert len(seen) == 2


def test_a_broken_connection_is_taken_up_even_when_the_task_is_over(feed) -> None:
    assert ids(feed(stream(ONE, then=drop), stream(TWO, LAST), task=OVER)) == IDS


def test_nothing_left_is_the_end(feed) -> None:
    assert feed(says(204), task=OVER) == []


def test_a_server_that_breaks_every_connection_is_given_up(feed, pauses) -> None:
    with pytest.raises(Unreachable, match="breaks every connection"):
        feed(stream(ONE, then=drop), stream(b"", then=drop), patience_s=0.2)
    assert len(pauses) > 2


def test_a_stream_without_chunks_comes_as_it_is_written(feed) -> None:
    def old_proxy(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(ONE + TWO + LAST)

    assert ids(feed(old_proxy)) == IDS


@pytest.mark.parametrize("nonsense", [b"<h1>It works!</h1>\n", b"[]\n", line("x", "chunk", {}), b'{"id": "1-0"}\n'])
def test_what_is_no_event_is_told_so(feed, nonsense: bytes) -> None:
    with pytest.raises(UnexpectedReply):
        feed(stream(nonsense))
