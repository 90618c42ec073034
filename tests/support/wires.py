"""An engine's end of a connection in the test's own hands, so that it decides which bytes arrive together."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from http.client import HTTPResponse

from graycat.engines.client import Call
from graycat.engines.sse import EventStream
from tests.support.helpers import PATIENCE_S

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TO_THE_END = b"HTTP/1.1 200 OK\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Return a piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def of_length(length: int) -> bytes:
    """Return the headers of an answer whose length they tell."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length


def batches(stream: EventStream) -> Iterator[list[bytes]]:
    """Yield a stream's events, those that arrive together together, until it has ended."""
    while not stream.ended:
        if batch := stream.read():
            yield batch
        elif not stream.ended:
            assert select.select([stream], [], [], PATIENCE_S)[0], f"nothing came within {PATIENCE_S:g} s"


class Wire:
    """A stream whose engine is the test; ``early`` comes in one piece with the headers."""

    def __init__(self, headers: bytes = CHUNKED, early: bytes = b"") -> None:
        self.ours, self.engine = socket.socketpair()
        self.engine.settimeout(PATIENCE_S)
        self.engine.sendall(headers + early)
        self._response = HTTPResponse(self.ours)
        self._response.begin()
        self.stream = EventStream(self.ours, self._response)
        self.call = Call()
        self.call.attach(self.ours)

    def feed(self, data: bytes) -> list[list[bytes]]:
        """Send bytes and read the events they make, by pieces that fit a socket's buffer."""
        found = []
        for begin in range(0, len(data), 16384):
            self.engine.sendall(data[begin : begin + 16384])
            found.append(self.stream.read())
        return [batch for batch in found if batch]

    def say(self, *events: bytes) -> None:
        """Send each event as a chunk, all in one piece."""
        self.engine.sendall(b"".join(map(chunk, events)))

    def end(self) -> None:
        """End the answer."""
        self.engine.sendall(LAST_CHUNK)

    def hang_up(self) -> None:
        """Close the engine's end."""
        self.engine.close()

    def reset(self) -> None:
        """Close the engine's end as a killed process does: with a request unread."""
        self.ours.send(b"GET / HTTP/1.1\r\n\r\n")
        self.engine.close()

    def close(self) -> None:
        """Close both ends."""
        self._response.close()
        self.ours.close()
        self.engine.close()
