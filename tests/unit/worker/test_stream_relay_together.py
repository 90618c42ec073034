"""What the pump does with the tokens of several streams, and when it learns what became of them."""

from __future__ import annotations

from graycat.worker import stream_relay as pump_module
from tests.support.helpers import PATIENCE_S, chunks, eventually, sse
from tests.support.streaming import WatchedRecords


def test_tokens_that_come_a_moment_apart_are_published_together(begin, pump, watched, monkeypatch) -> None:
    monkeypatch.setattr(pump_module, "TOGETHER_S", PATIENCE_S)
    streams = [begin() for _ in range(3)]
    eventually(lambda: len(pump._flows) == 3)
    for streaming in streams:
        streaming.wire.say(*sse("a", stop=False))
    eventually(lambda: watched.rounds)
    assert watched.rounds == [{streaming.id: sse("a", stop=False) for streaming in streams}]
    # Who waits for another stream does not wait for one that ends.
    streams[0].wire.say(*sse("b"))
    streams[0].wire.end()
    assert streams[0].over().events == sse("b")


def test_one_stream_waits_for_nobody(begin, watched: WatchedRecords, monkeypatch) -> None:
    monkeypatch.setattr(pump_module, "TOGETHER_S", 10 * PATIENCE_S)
    streaming = begin()
    streaming.wire.say(*sse("a", stop=False))
    eventually(lambda: chunks(watched, streaming.id) == sse("a", stop=False))


def test_a_cancelled_stream_that_says_nothing_more_is_stopped_soon(begin, watched: WatchedRecords) -> None:
    streaming = begin()
    watched.cancel(streaming.id)
    streaming.wire.say(*sse("the last", stop=False))
    assert streaming.wire.engine.recv(1) == b""
