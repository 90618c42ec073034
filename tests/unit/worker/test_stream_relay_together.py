"""What the relay does with the tokens of several streams, and when it learns what became of them."""

from __future__ import annotations

from graycat.worker import stream_relay
from tests.support.helpers import PATIENCE_S, chunks, eventually, sse
from tests.support.streaming import WatchedRecords


def test_tokens_that_come_a_moment_apart_are_published_together(begin, relay, watched, monkeypatch) -> None:
    monkeypatch.setattr(stream_relay, "COALESCE_S", PATIENCE_S)
    streams = [begin() for _ in range(3)]
    eventually(lambda: len(relay._streams) == 3)
    for streaming in streams:
        streaming.wire.say(*sse("a", stop=False))
    eventually(lambda: watched.rounds)
    assert watched.rounds == [{streaming.id: sse("a", stop=False) for streaming in streams}]
    # A stream waits for others, but not if one has ended.
    streams[0].wire.say(*sse("b"))
    streams[0].wire.end()
    assert streams[0].over().events == sse("b")


def test_a_single_stream_does_not_wait(begin, watched: WatchedRecords, monkeypatch) -> None:
    monkeypatch.setattr(stream_relay, "COALESCE_S", 10 * PATIENCE_S)
    streaming = begin()
    streaming.wire.say(*sse("a", stop=False))
    eventually(lambda: chunks(watched, streaming.id) == sse("a", stop=False))


def test_a_cancelled_stream_that_says_nothing_more_is_stopped_soon(begin, watched: WatchedRecords) -> None:
    streaming = begin()
    watched.cancel(streaming.id)
    streaming.wire.say(*sse("the last", stop=False))
    assert streaming.wire.engine.recv(1) == b""
