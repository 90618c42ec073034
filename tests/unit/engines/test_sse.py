from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from graycat.engines import sse
from graycat.engines.client import Call, EngineClient
from graycat.engines.sse import EventStream
from graycat.errors import EngineLost, EngineProtocolError
from tests.support.helpers import PATIENCE_S, joined
from tests.support.servers import Answer, Handler, after, drop, hold, stream
from tests.support.wires import CHUNKED, LAST_CHUNK, TO_THE_END, Wire, batches, chunk, of_length

ONE, TWO = b"data: 1\n\n", b"data: 2\n\n"
UMLAUTS = "data: schlüssel\n\n".encode()
HUGE = b"data: " + b"x" * 200_000 + b"\n\n"

#: Headers, what makes a body of an event, and what ends it.
FRAMINGS: dict[str, tuple[bytes, Callable[[bytes], bytes], bytes]] = {
    "chunked": (CHUNKED, chunk, LAST_CHUNK),
    "of a known length": (of_length(len(ONE)), bytes, b""),
    "to the end": (TO_THE_END, bytes, b""),
}


@pytest.fixture
def wire() -> Iterator[Callable[..., Wire]]:
    """Return how to make a wire; all are closed at the end."""
    made: list[Wire] = []

    def make(headers: bytes = CHUNKED, early: bytes = b"") -> Wire:
        made.append(Wire(headers, early))
        return made[-1]

    yield make
    for each in made:
        each.close()


def events_from(client: EngineClient) -> list[bytes]:
    """Return the events of a streamed answer; its connection is good for the next call."""
    call = Call()
    with client.open("POST", "/completion", b"{}", call=call) as response:
        events = joined(batches(EventStream(call.sock, response)))
        response.close()
    return events


def keeping(*pieces: bytes) -> Answer:
    """Return a streamed answer, sent as it is, behind which the connection may be used again."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for piece in pieces:
            handler.wfile.write(piece)

    return answer


@pytest.mark.parametrize(
    ("pieces", "wanted"),
    [
        ([ONE], [[ONE]]),
        ([ONE + TWO], [[ONE, TWO]]),
        ([b"data: 1\n\nda", b"ta: 2\n\n"], [[ONE], [TWO]]),
        ([b"data: 1", b"\n", b"\n"], [[ONE]]),
        ([b": ping\n\n", ONE, b":\n\n"], [[ONE]]),
        ([b": ping\n\ndata: 1\n\n"], [[ONE]]),
        ([b"\n\n\n\ndata: 1\n\n"], [[ONE]]),
        ([b"event: x\ndata: 1\n\n"], [[b"event: x\ndata: 1\n\n"]]),
        ([UMLAUTS[:11], UMLAUTS[11:]], [[UMLAUTS]]),
        ([b"data: 1\n\ndata: cut off"], [[ONE]]),
        ([HUGE], [[HUGE]]),
        ([], []),
    ],
)
def test_events_keep_their_bytes_however_they_arrive(wire, pieces: list[bytes], wanted: list[list[bytes]]) -> None:
    w = wire()
    assert [batch for piece in pieces for batch in w.feed(chunk(piece))] == wanted
    assert not w.stream.ended
    assert w.feed(LAST_CHUNK) == []
    assert w.stream.ended


def test_chunks_that_arrive_together_are_read_together(wire) -> None:
    w = wire()
    assert w.feed(chunk(ONE) + chunk(TWO) + LAST_CHUNK) == [[ONE, TWO]]
    assert w.stream.ended


#: Everything that a chunked body may hold: extensions, capitals, leading zeros, an event over two chunks, trailers.
BODY = (
    b'9;name="a value"\r\ndata: 1\n\n\r\n'
    + b"000A\r\ndata: \xc3\xbc\n\n\r\n"
    + chunk(b"data: ")
    + chunk(b"2\n\n")
    + b"0\r\nX-Time: 7\r\n\r\n"
)
EVENTS = [ONE, b"data: \xc3\xbc\n\n", TWO]


def test_a_body_may_come_byte_by_byte(wire) -> None:
    w = wire()
    found = []
    for byte in BODY:
        assert not w.stream.ended
        found += w.feed(bytes([byte]))
    assert joined(found) == EVENTS
    assert w.stream.ended


def test_a_body_may_be_cut_anywhere() -> None:
    for cut in range(1, len(BODY)):
        w = Wire()
        assert joined(w.feed(BODY[:cut]) + w.feed(BODY[cut:])) == EVENTS, cut
        assert w.stream.ended
        w.close()


@pytest.mark.parametrize("early", range(0, len(BODY) + 1, 5))
def test_what_came_with_the_headers_is_not_lost(wire, early: int) -> None:
    w = wire(early=BODY[:early])
    found = w.stream.read()
    assert joined([found, *w.feed(BODY[early:])]) == EVENTS
    assert w.stream.ended


def test_reading_never_waits(wire) -> None:
    w = wire()
    assert (w.stream.read(), w.stream.ended) == ([], False)
    assert w.stream.fileno() == w.ours.fileno()


def test_an_answer_may_tell_its_length(wire) -> None:
    w = wire(of_length(len(ONE + TWO)), early=ONE[:3])
    assert w.stream.read() == []
    assert w.feed(ONE[3:]) == [[ONE]]
    assert not w.stream.ended
    assert w.feed(TWO) == [[TWO]]
    assert w.stream.ended


def test_an_answer_may_be_empty(wire) -> None:
    w = wire(of_length(0))
    assert (w.stream.read(), w.stream.ended) == ([], True)


def test_an_answer_may_end_with_its_connection(wire) -> None:
    w = wire(TO_THE_END)
    assert w.feed(ONE + b"data: cut") == [[ONE]]
    w.hang_up()
    assert list(batches(w.stream)) == []
    assert w.stream.ended


@pytest.mark.parametrize(
    "nonsense",
    [
        b"xyz\r\n",
        b"-5\r\n",
        b"\r\n",
        b";name=value\r\n",
        b"%x\r\n" % (sse.MAX_EVENT_BYTES + 1),
        b"f" * 5000,
        b"9\r\ndata: 1\n\nmore than was said",
    ],
)
def test_chunks_that_make_no_sense_are_nonsense(wire, nonsense: bytes) -> None:
    w = wire()
    w.feed(chunk(ONE))
    with pytest.raises(EngineProtocolError):
        w.feed(nonsense)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_event_without_an_end_is_nonsense(wire, framing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    _, frame, _ = FRAMINGS[framing]
    w = wire(of_length(1000) if framing == "of a known length" else FRAMINGS[framing][0])
    w.feed(frame(b"x" * 60))
    with pytest.raises(EngineProtocolError):
        w.feed(frame(b"x" * 60))


@pytest.mark.parametrize("hang_up", [Wire.hang_up, Wire.reset])
@pytest.mark.parametrize("headers", [CHUNKED, of_length(1000)])
def test_an_engine_that_breaks_off_is_lost_once_its_events_are_read(wire, headers: bytes, hang_up) -> None:
    w = wire(headers)
    said = ONE + TWO + b"data: ha"
    w.engine.sendall(chunk(said) if headers == CHUNKED else said)
    hang_up(w)
    assert w.stream.read() == [ONE, TWO]
    with pytest.raises(EngineLost):
        list(batches(w.stream))


@pytest.mark.parametrize("framing", ["chunked", "to the end"])
def test_a_reset_does_not_take_what_came_with_the_headers(wire, framing: str) -> None:
    headers, frame, _ = FRAMINGS[framing]
    w = wire(headers, early=frame(ONE))
    w.reset()
    assert w.stream.read() == [ONE]
    with pytest.raises(EngineLost):
        list(batches(w.stream))


@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_engine_that_hangs_up_behind_its_answer_has_answered(wire, framing: str) -> None:
    headers, frame, end = FRAMINGS[framing]
    w = wire(headers)
    w.engine.sendall(frame(ONE) + end)
    w.hang_up()
    assert joined(batches(w.stream)) == [ONE]


@pytest.mark.parametrize("end", [LAST_CHUNK, b"0\r\nX-Time: 7\r\n\r\n"])
def test_a_stream_that_was_read_to_its_end_leaves_its_connection(serve, end: bytes) -> None:
    client, seen = serve(completion=keeping(chunk(ONE), end))
    assert [events_from(client) for _ in range(3)] == [[ONE]] * 3
    assert seen.connections == 1


def test_a_stream_may_announce_that_its_connection_ends(serve) -> None:
    client, seen = serve(completion=stream(ONE, HUGE))
    assert [events_from(client) for _ in range(2)] == [[ONE, HUGE]] * 2
    assert seen.connections == 2


def test_a_stream_that_breaks_off_gives_what_came_before(serve) -> None:
    client, _ = serve(completion=stream(ONE, b"data: 2\n\ndata:", then=drop))
    events: list[bytes] = []
    call = Call()
    with pytest.raises(EngineLost), client.open("POST", "/completion", b"{}", call=call) as response:
        events.extend(event for batch in batches(EventStream(call.sock, response)) for event in batch)
    assert events == [ONE, TWO]


def test_an_unread_answer_closes_the_connection(serve) -> None:
    client, seen = serve(completion=stream(ONE, then=hold))
    call = Call()
    with client.open("POST", "/completion", b"{}", call=call) as response:
        assert next(batches(EventStream(call.sock, response))) == [ONE]
    assert seen.hung_up.wait(PATIENCE_S)


def test_an_event_is_there_before_the_next_is_made(serve) -> None:
    gate = threading.Event()

    def second(handler: Handler) -> None:
        after(gate, lambda h: h.piece(TWO))(handler)
        handler.wfile.write(LAST_CHUNK)

    client, _ = serve(completion=stream(ONE, then=second))
    call = Call()
    with client.open("POST", "/completion", b"{}", call=call) as response:
        events = batches(EventStream(call.sock, response))
        assert next(events) == [ONE]
        gate.set()
        assert next(events) == [TWO]
        assert list(events) == []


#: Texts of event streams, most of them from the HTML standard (9.2.6, 9.2.7), and the events that they make.
TEXTS = {
    "LF": (b"data: 1\n\ndata: 2\n\n", [ONE, TWO]),
    "CR": (b"data: 1\r\rdata: 2\r\r", [ONE, TWO]),
    "CRLF": (b"data: 1\r\n\r\ndata: 2\r\n\r\n", [ONE, TWO]),
    "mixed": (b"data: 1\r\n\ndata: 2\n\r\ndata: 1\r\r\ndata: 2\n\r", [ONE, TWO, ONE, TWO]),
    "a comment before": (b": hello\ndata: 1\n\n:\ndata: 2\n\n", [ONE, TWO]),
    "a comment within": (b"data: 1\n: {\n\n", [ONE]),
    "comments alone": (b": one\n\n:\r\n\r\n", []),
    "no space": (b"data:1\n\n", [ONE]),
    "one space is removed": (b"data:  1\n\n", [b"data:  1\n\n"]),
    "several lines": (b'data: {"a":\ndata: 1}\n\n', [b'data: {"a": 1}\n\n']),
    "no data": (b"data\n\ndata\ndata\n\ndata:", []),
    "an event without data": (b"event: ping\n\ndata: 1\n\n", [ONE]),
    "a name": (b"event:x\r\ndata:1\r\n\r\ndata: 2\r\n\r\n", [b"event: x\ndata: 1\n\n", TWO]),
    "a name behind its data": (b"data: 1\nevent: x\n\n", [b"event: x\ndata: 1\n\n"]),
    "ids and pauses": (b"id: 7\nretry: 100\ndata: 1\n\nid\nretry: x\ndata: 2\nid: 8\n\n", [ONE, TWO]),
    "unknown fields": (b"data: 1\nfoo: 2\ndatas: 3\n data: 4\n\n", [ONE]),
    "a colon in the data": (b"data: a: b\n\n", [b"data: a: b\n\n"]),
    "a byte order mark": (b"\xef\xbb\xbfdata: 1\n\ndata: 2\n\n", [ONE, TWO]),
    "two byte order marks": (b"\xef\xbb\xbf\xef\xbb\xbfdata: 1\n\ndata: 2\n\n", [TWO]),
    "a byte order mark behind": (b"data: 1\n\n\xef\xbb\xbfdata: 2\n\n", [ONE]),
    "no end": (b"data: 1\n\ndata: 2\n", [ONE]),
    "letters of several bytes": ("data: ü\u2028🐈\r\n\r\n".encode(), ["data: ü\u2028🐈\n\n".encode()]),
    "an error in a field of its own": (b'error: {"code":500}\n\n', [b'event: error\ndata: {"code":500}\n\n']),
}


@pytest.mark.parametrize("name", TEXTS)
def test_every_form_of_the_standard_is_read_wherever_it_is_cut(name: str) -> None:
    text, events = TEXTS[name]
    for cut in range(len(text) + 1):
        parser = sse.EventParser()
        assert parser.feed(text[:cut]) + parser.feed(text[cut:]) == events, cut
    parser = sse.EventParser()
    assert joined(parser.feed(bytes([byte])) for byte in text) == events


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("name", TEXTS)
def test_every_form_of_the_standard_is_read_in_any_framing(wire, name: str, framing: str) -> None:
    text, events = TEXTS[name]
    _, frame, end = FRAMINGS[framing]
    w = wire(of_length(len(text)) if framing == "of a known length" else FRAMINGS[framing][0])
    # What comes before does not change how the next is read.
    assert joined(w.feed(frame(text))) == events
    w.engine.sendall(end)
    w.hang_up()
    assert (list(batches(w.stream)), w.stream.ended) == ([], True)


@pytest.mark.parametrize("second", [b"data: {}\n\n", b"event: x\ndata: {}\n\n"])
@pytest.mark.parametrize("first", [b"data: {", b"\xef\xbb", b"event: y\n", b": c", b"data: 1\r", b""])
def test_the_shortcut_is_taken_only_between_two_events(wire, first: bytes, second: bytes) -> None:
    w = wire()
    parser = sse.EventParser()
    assert joined(w.feed(chunk(first)) if first else []) == parser.feed(first)
    assert joined(w.feed(chunk(second))) == parser.feed(second)


@pytest.mark.parametrize(
    "event",
    [
        b"data: {}\nid: 1\n\n",
        b"id: 1\ndata: {}\n\n",
        b"data: {\ndata: }\n\n",
        b"event: x\ndata: {\ndata: }\n\n",
        b"event: x\nid: {}\ndata: {}\n\n",
        b"data: {}\n: }\n\n",
        b"data: {}\r\n: }\n\n",
    ],
)
def test_one_event_in_a_chunk_has_the_one_form_too(wire, event: bytes) -> None:
    assert joined(wire().feed(chunk(event))) == sse.EventParser().feed(event)


def test_an_event_of_many_pieces_is_read_once(wire) -> None:
    w = wire()
    event = b"data: " + b"x" * (sse.MAX_EVENT_BYTES // 2 + 1) + b"\n\n"
    assert joined(w.feed(chunk(event))) == [event]


@pytest.mark.parametrize("line", [b"data: ", b": ", b"nothing: "])
def test_a_line_without_an_end_is_bounded(line: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    parser = sse.EventParser()
    parser.feed(line)
    with pytest.raises(EngineProtocolError):
        joined(parser.feed(b"x" * 10) for _ in range(20))


def test_lines_of_data_without_an_end_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    parser = sse.EventParser()
    with pytest.raises(EngineProtocolError):
        joined(parser.feed(b"data\n") for _ in range(101))


def test_comments_for_hours_are_no_long_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    parser = sse.EventParser()
    assert joined(parser.feed(b": still here\n") for _ in range(1000)) == []
    assert parser.feed(ONE) == [ONE]


def test_trailers_without_an_end_are_bounded(wire) -> None:
    w = wire()
    w.feed(b"0\r\n")
    with pytest.raises(EngineProtocolError):
        w.feed(b"X-Endless: " + b"x" * sse.MAX_LINE_BYTES)
