"""Unity's readers are only worth something if they break where Unity's clients break."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.unity import Answer, BrokenAnswer, ErrorAnswer, V2Reader, V3Reader

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n"
END = b"0\r\n\r\n"
READERS = pytest.mark.parametrize("reader", [V3Reader(), V2Reader()], ids=["v3", "v2"])

Reader = V3Reader | V2Reader


@contextmanager
def serving(*pieces: bytes) -> Iterator[socket.socket]:
    """Yield a connection on which ``pieces`` come and which then ends."""
    near, far = socket.socketpair()
    near.settimeout(10)
    # The kernel's buffer takes it all, so the reader finds what has come before its first read in one fill.
    with far:
        far.sendall(b"".join(pieces))
    with near:
        yield near


def event(content: str = "a", *, stop: bool = False, **fields: object) -> bytes:
    """Return an event as llama.cpp writes it."""
    return b"data: " + json.dumps({"content": content, "tokens": [7], "stop": stop, **fields}).encode() + b"\n\n"


def chunk(content: bytes) -> bytes:
    """Return an HTTP chunk."""
    return b"%X\r\n%b\r\n" % (len(content), content)


def read(reader: Reader, *contents: bytes) -> Answer:
    """Return what a reader makes of chunks."""
    with serving(HEAD, *map(chunk, contents), END) as connection:
        return reader.read(connection)


LAST = event("", stop=True)


@READERS
def test_an_event_a_chunk_is_an_answer(reader: Reader) -> None:
    answer = read(reader, event("a"), event("ü"), LAST)
    assert (answer.content, answer.tokens, len(answer.events)) == ("aü", [7, 7, 7], 3)


@READERS
def test_blank_lines_keep_an_answer_alive(reader: Reader) -> None:
    assert read(reader, b"\n", event("a"), b"\n", LAST).content == "a"


@READERS
@pytest.mark.parametrize(
    "bad",
    [
        b": ping\n\n",
        b"event: message\n",
        b"id: 1\n",
        b"data: [DONE]\n\n",
        b"<html>Bad Gateway</html>",
        b'data: {"content":null,"stop":false}\n\n',
        b'data: {"stop":false}\n\n',
        b'data: ["content"]\n\n',
        b'data: {"content":"cut',
        b'data: {"content":"\xc3',
    ],
)
def test_anything_but_an_event_breaks_the_answer(reader: Reader, bad: bytes) -> None:
    with pytest.raises(BrokenAnswer):
        read(reader, event("a"), bad, LAST)


@READERS
def test_an_answer_without_a_stop_is_broken(reader: Reader) -> None:
    with pytest.raises(BrokenAnswer, match="without a stop"):
        read(reader, event("a"))


@READERS
def test_a_connection_that_ends_early_breaks_the_answer(reader: Reader) -> None:
    with serving(HEAD, chunk(event("a")), chunk(LAST)) as connection, pytest.raises(BrokenAnswer, match="ends in"):
        reader.read(connection)
    with serving(HEAD, chunk(LAST)[:-3]) as connection, pytest.raises(BrokenAnswer, match="early"):
        reader.read(connection)


@READERS
def test_an_error_event_is_an_error(reader: Reader) -> None:
    error = b'data: {"error":{"code":502,"message":"gone","type":"engine_lost"}}\n\n'
    with pytest.raises(ErrorAnswer) as caught:
        read(reader, event("a"), error)
    assert caught.value.status == 502


@READERS
def test_an_error_status_is_an_error_even_with_a_good_body(reader: Reader) -> None:
    head = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n"
    body = b'{"error":{"code":503,"message":"later","type":"unavailable_error"}}'
    with serving(head % len(body), body) as connection, pytest.raises(ErrorAnswer) as caught:
        reader.read(connection)
    assert (caught.value.status, caught.value.body["error"]["message"]) == (503, "later")


def test_v3_breaks_at_two_events_in_one_chunk_and_v2_does_not() -> None:
    both = event("a") + event("b")
    with pytest.raises(BrokenAnswer):
        read(V3Reader(), both, LAST)
    assert read(V2Reader(), both, LAST).content == "ab"


@READERS
def test_an_event_in_two_chunks_breaks_the_answer(reader: Reader) -> None:
    with pytest.raises(BrokenAnswer):
        read(reader, LAST[:20], LAST[20:])


def test_v3_breaks_at_an_event_larger_than_its_buffer_and_v2_does_not() -> None:
    large = event("", stop=True, prompt="x" * 5000)
    with pytest.raises(BrokenAnswer):
        read(V3Reader(), large)
    assert read(V2Reader(), large).events[-1]["stop"] is True


def test_v3_breaks_at_an_event_that_does_not_fit_in_what_is_left_of_its_buffer() -> None:
    fits, late = event("", pad="x" * 3000), event("", stop=True, pad="x" * 3000)
    with serving(HEAD + chunk(fits) + chunk(late) + END) as connection, pytest.raises(BrokenAnswer):
        V3Reader().read(connection)


def test_v3_breaks_at_an_event_behind_the_stop() -> None:
    with pytest.raises(BrokenAnswer, match="follows the stop"):
        read(V3Reader(), LAST, event("b"))


def test_v2_breaks_at_a_data_mark_inside_a_text_unless_it_is_escaped() -> None:
    text = event("some data: here")
    assert read(V3Reader(), text, LAST).content == "some data: here"
    with pytest.raises(BrokenAnswer):
        read(V2Reader(), text, LAST)
    escaped = text[:6] + text[6:].replace(b"data: ", rb"data\u003a ")
    assert read(V2Reader(), escaped, LAST).content == "some data: here"
