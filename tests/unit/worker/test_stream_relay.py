from __future__ import annotations

import pytest
import redis

from graycat.engines.client import StopReason
from graycat.errors import BrokerUnavailable, EngineError, EngineLost, EngineProtocolError, StaleAttempt
from graycat.loops.threads import stuck_loops
from graycat.queue.records import TaskRecords
from graycat.worker.stream_relay import StreamRelay
from tests.support.helpers import Valkey, chunks, eventually, sse, started
from tests.support.streaming import Streaming, WatchedRecords, held
from tests.support.wires import LAST_CHUNK, chunk

ERROR = b'{"error":{"code":500,"message":"context shift is off"}}'


def test_each_of_many_streams_gets_its_own_events_in_order(begin, watched: WatchedRecords) -> None:
    streams = [begin() for _ in range(16)]
    for turn in range(30):
        for index, streaming in enumerate(streams):
            streaming.wire.say(*[b"data: %d %d %d\n\n" % (index, turn, part) for part in range(turn % 3)])
    for index, streaming in enumerate(streams):
        streaming.wire.end()
        stream = streaming.over()
        wanted = [b"data: %d %d %d\n\n" % (index, turn, part) for turn in range(30) for part in range(turn % 3)]
        assert chunks(watched, streaming.id) == wanted
        assert stream.events == wanted[-1:]


def test_what_arrives_together_is_published_together(begin, watched: WatchedRecords) -> None:
    streams = [begin() for _ in range(4)]
    held(watched, streams[0])
    for streaming in streams:
        streaming.wire.say(*sse("a", "b"))
    watched.open.set()
    for streaming in streams:
        streaming.wire.end()
        streaming.over()
    assert watched.rounds[1:] == [{streaming.id: sse("a", "b") for streaming in streams}]


def test_what_came_with_the_headers_is_published_at_once(begin, watched: WatchedRecords) -> None:
    streaming = begin(early=chunk(b"data: 1\n\n"))
    eventually(lambda: chunks(watched, streaming.id) == [b"data: 1\n\n"])


def test_a_whole_answer_that_came_with_the_headers_is_one(begin, watched: WatchedRecords) -> None:
    streaming = begin(early=chunk(b"data: 1\n\n") + LAST_CHUNK)
    assert streaming.over().events == [b"data: 1\n\n"]


def test_an_event_that_is_edited_away_is_not_counted(begin, watched: WatchedRecords) -> None:
    streaming = begin(edit=lambda event: b"" if b"drop" in event else event)
    streaming.wire.say(b"data: drop\n\n", b"data: 1\n\n", b"data: drop\n\n")
    streaming.wire.say(b"data: drop\n\n")
    streaming.wire.say(b"data: 2\n\n")
    streaming.wire.end()
    assert (streaming.over().count, chunks(watched, streaming.id)) == (2, [b"data: 1\n\n", b"data: 2\n\n"])


def test_an_answer_without_events_is_over_at_its_end(begin, watched: WatchedRecords) -> None:
    streaming = begin()
    streaming.wire.end()
    assert (streaming.over().events, watched.rounds) == ([], [])


def test_every_byte_of_a_stream_is_a_sign_of_life(begin, relay: StreamRelay) -> None:
    first, second = begin(), begin()
    heard_at = eventually(lambda: relay.heard_at)
    # Also a part of an event, which is published to nobody.
    first.wire.engine.sendall(b"2\r\nda")
    heard_again_at = eventually(lambda: relay.heard_at > heard_at and relay.heard_at)
    second.wire.say(b"data: 1\n\n")
    eventually(lambda: relay.heard_at > heard_again_at)


def test_one_relay_runs_one_stream_after_the_other(begin, watched: WatchedRecords) -> None:
    for _ in range(20):
        streaming = begin()
        streaming.wire.say(b"data: 1\n\n")
        streaming.wire.end()
        streaming.over()
        assert chunks(watched, streaming.id) == [b"data: 1\n\n"]


def test_a_stream_that_is_gathered_is_kept_and_not_published(begin, watched: WatchedRecords) -> None:
    streaming = begin(publish=False)
    for event in sse("Hel", "lo", ""):
        streaming.wire.say(event)
    streaming.wire.end()
    assert streaming.over().events == sse("Hel", "lo", "")
    assert (watched.rounds, chunks(watched, streaming.id)) == ([], [])


def progress(done: int) -> bytes:
    """Return an event that tells how far a prompt is."""
    return b'data: {"content":"","stop":false,"prompt_progress":{"total":300,"processed":%d}}\n\n' % done


@pytest.mark.parametrize("publish", [True, False])
def test_progress_that_nobody_asked_for_is_left_out(begin, watched: WatchedRecords, publish: bool) -> None:
    streaming = begin(publish=publish, keep=True, skip_progress=True)
    saying = b'data: {"content":"\\"prompt_progress\\":"}\n\n'
    streaming.wire.say(progress(0) + progress(128))
    streaming.wire.say(progress(300) + saying)
    streaming.wire.say(progress(300))
    streaming.wire.end()
    assert streaming.over().events == [saying]
    assert (streaming.stream.count, streaming.stream.first_at > 0) == (1, True)
    assert chunks(watched, streaming.id) == [saying] * publish


def test_progress_that_was_asked_for_is_passed_on(begin, watched: WatchedRecords) -> None:
    streaming = begin()
    streaming.wire.say(progress(128))
    streaming.wire.end()
    streaming.over()
    assert chunks(watched, streaming.id) == [progress(128)]


def test_a_task_that_was_cancelled_stops_its_engine(begin, watched: WatchedRecords) -> None:
    streaming, other = begin(), begin()
    watched.cancel(streaming.id)
    streaming.wire.say(b"data: 1\n\n")
    # The engine's end reads what a client does that hangs up.
    assert streaming.wire.engine.recv(1) == b""
    with pytest.raises(EngineLost):
        streaming.over()
    assert streaming.wire.call.stopped == StopReason.CANCELLED
    assert chunks(watched, streaming.id) == [b"data: 1\n\n"]
    finishes(other, watched)


def finishes(streaming: Streaming, records: TaskRecords) -> None:
    """Assert that a stream goes on to its end."""
    before = chunks(records, streaming.id)
    streaming.wire.say(b"data: on\n\n")
    streaming.wire.end()
    assert streaming.over().events == [b"data: on\n\n"]
    assert chunks(records, streaming.id) == [*before, b"data: on\n\n"]


def test_a_stop_from_outside_ends_a_silent_stream(begin, watched: WatchedRecords) -> None:
    streaming, other = begin(), begin()
    streaming.wire.call.stop(StopReason.TIMED_OUT)
    with pytest.raises(EngineLost):
        streaming.over()
    finishes(other, watched)


def test_a_stale_attempt_ends_only_its_own_stream(begin, watched: WatchedRecords) -> None:
    streaming, other = begin(), begin()
    watched.release(streaming.attempt)
    held(watched, other)
    for each in (streaming, other):
        each.wire.say(b"data: 1\n\n")
    watched.open.set()
    with pytest.raises(StaleAttempt):
        streaming.over()
    assert chunks(watched, streaming.id) == []
    finishes(other, watched)


def test_an_engine_that_is_lost_ends_only_its_own_stream(begin, watched: WatchedRecords) -> None:
    streaming, other = begin(), begin()
    streaming.wire.say(b"data: 1\n\n")
    streaming.wire.hang_up()
    with pytest.raises(EngineLost):
        streaming.over()
    assert chunks(watched, streaming.id) == [b"data: 1\n\n"]
    finishes(other, watched)


def test_a_malformed_reply_ends_only_its_own_stream(begin, watched: WatchedRecords) -> None:
    streaming, other = begin(), begin()
    streaming.wire.engine.sendall(b"no size\r\n")
    with pytest.raises(EngineProtocolError):
        streaming.over()
    finishes(other, watched)


@pytest.mark.parametrize("publish", [True, False])
def test_an_error_event_ends_a_stream_behind_what_came_before(begin, watched: WatchedRecords, publish: bool) -> None:
    streaming = begin(publish=publish)
    streaming.wire.say(b"data: 1\n\n", b"data: 2\n\n", b"data: " + ERROR + b"\n\n", b"data: 3\n\n")
    with pytest.raises(EngineError) as caught:
        streaming.over()
    assert (caught.value.status, caught.value.encoded()) == (500, ERROR)
    assert chunks(watched, streaming.id) == ([b"data: 1\n\n", b"data: 2\n\n"] if publish else [])


@pytest.mark.parametrize("error", [b'data: {"error"', b'data: {"error": "text"}', b'data: {"error": {"code": null}}'])
def test_a_malformed_error_event_is_a_protocol_error(begin, error: bytes) -> None:
    streaming = begin()
    streaming.wire.say(error + b"\n\n")
    with pytest.raises(EngineProtocolError):
        streaming.over()


def test_without_a_broker_a_stream_ends_and_the_relay_goes_on(mortal_broker: Valkey) -> None:
    records = WatchedRecords(mortal_broker, mortal_broker.settings)
    relay = StreamRelay(records.publisher)
    streaming, silent = (Streaming(relay, started(records)) for _ in range(2))
    streaming.wire.say(b"data: 1\n\n")
    eventually(lambda: chunks(records, streaming.id))
    mortal_broker.kill()
    streaming.wire.say(b"data: 2\n\n")
    with pytest.raises(BrokerUnavailable):
        streaming.over()
    mortal_broker.start()
    finishes(silent, records)
    finishes(Streaming(relay, started(records)), records)


def test_an_event_that_cannot_be_edited_ends_only_its_own_stream(begin, watched: WatchedRecords) -> None:
    streaming, other = begin(), begin()

    def fail(_event: bytes) -> bytes:
        raise KeyError("content")

    streaming.stream._edit = fail
    streaming.wire.say(b"data: 1\n\n")
    with pytest.raises(KeyError):
        streaming.over()
    finishes(other, watched)


def test_a_stream_that_another_program_has_replaced_ends_alone(begin, watched: WatchedRecords, client) -> None:
    streaming, other = begin(), begin()
    client.set(f"graycat:events:{streaming.id}", "no stream")
    streaming.wire.say(b"data: 1\n\n")
    with pytest.raises(redis.ResponseError):
        streaming.over()
    finishes(other, watched)


def test_a_relay_that_hangs_is_told_until_it_goes_on(begin, relay, watched: WatchedRecords) -> None:
    relay._loop.stuck_after_s = 0.05
    streaming = begin()
    held(watched, streaming)
    eventually(lambda: "stream relay" in stuck_loops())
    watched.open.set()
    eventually(lambda: "stream relay" not in stuck_loops())
    finishes(streaming, watched)


def test_a_defect_of_the_relay_leaves_no_stream_waiting(begin, watched: WatchedRecords) -> None:
    streaming, silent = begin(), begin()
    held(watched, streaming)
    watched.error = ZeroDivisionError()
    # It comes while the relay is at work, and is not registered.
    late = begin()
    watched.open.set()
    for each in (streaming, silent):
        with pytest.raises(ZeroDivisionError):
            each.over()
    watched.error = None
    late.wire.call.stop(StopReason.SHUTDOWN)
    with pytest.raises((ZeroDivisionError, EngineLost)):
        late.over()
    finishes(begin(), watched)


def test_streams_that_come_with_one_that_cannot_be_watched_do_not_wait(begin, relay, watched: WatchedRecords) -> None:
    held(watched, begin())
    closed, beside = begin(), begin()
    closed.wire.close()
    # Both are to be registered by the same step, which fails at the one without a socket.
    eventually(lambda: len(relay._new) == 2)
    watched.open.set()
    with pytest.raises(ValueError, match="file descriptor"):
        closed.over()
    finishes(beside, watched)
