"""Reads an engine's streamed response as its bytes arrive, without ever waiting for them."""

from __future__ import annotations

import socket
from http.client import HTTPResponse
from typing import Any

from graycat.engines.client import READ_BYTES
from graycat.errors import EngineLost, EngineProtocolError

#: The longest event and the longest chunk that are accepted.
MAX_EVENT_BYTES = 16 * 1024 * 1024
#: The longest first line of a chunk that is accepted.
MAX_LINE_BYTES = 4096


class EventStream:
    """The server-sent events of one response.

    http.client's own reader is not used once the headers are read: it waits, and costs as much time for a token as
    everything else here. ``fileno`` makes the stream usable with ``select``.
    """

    def __init__(self, sock: socket.socket, response: HTTPResponse) -> None:
        self._sock = sock
        self._chunked = bool(getattr(response, "chunked", False))
        #: Bytes of the body that have not arrived, if the headers tell its length.
        self._remaining = response.length
        #: An incomplete chunk, and an incomplete event: their rest has not arrived.
        self._partial_chunk = b""
        self._partial_event = b""
        #: Whether the last event was returned.
        self.ended = False
        #: Whether the connection was reset. The socket reports a reset once, and looks closed after that.
        self._reset = False
        sock.setblocking(False)
        # What arrived together with the headers. The socket is non-blocking, so there may be nothing.
        buffered: Any = response.fp
        self._buffered: bytes = buffered.peek() or b""
        if self._buffered:
            buffered.read1(len(self._buffered))

    def fileno(self) -> int:
        """Return the socket's file descriptor."""
        return self._sock.fileno()

    def read(self) -> list[bytes]:
        """Return the complete events that have arrived, each with its blank line; comments are dropped.

        Sets ``ended`` with the last event. Raises EngineLost if the response breaks off.
        """
        data = self._buffered
        self._buffered = b""
        closed = False
        try:
            received = self._sock.recv(READ_BYTES)
            data += received
            closed = not received
        except BlockingIOError:
            pass
        except OSError:
            closed = self._reset = True
        events = self._single_event(data) or self._split_events(self._decode_body(data))
        # Events before the end are returned first: the next read finds the same end.
        if closed and not self.ended and not events:
            if self._chunked or self._remaining is not None or self._reset:
                raise EngineLost
            self.ended = True
        return events

    def _single_event(self, data: bytes) -> list[bytes] | None:
        """Return the event if ``data`` is exactly one chunk with exactly one event, which is the usual case; else None.

        This shortcut saves time for every token.
        """
        if not self._chunked or self._partial_chunk or self._partial_event or not data.endswith(b"\n\n\r\n"):
            return None
        line, _, rest = data.partition(b"\r\n")
        if data.count(b"\n\n") != 1 or rest.startswith(b":") or _chunk_size(line) != len(rest) - 2:
            return None
        return [rest[:-2]]

    def _decode_body(self, data: bytes) -> bytes:
        """Return the part of the body in ``data``; set ``ended`` if the framing shows the end."""
        if self._chunked:
            return self._decode_chunks(data)
        if self._remaining is not None:
            self._remaining -= len(data)
            self.ended = self._remaining <= 0
        return data

    def _decode_chunks(self, data: bytes) -> bytes:
        """Decode the chunked transfer coding (RFC 9112, 7.1); keep an incomplete chunk until its rest arrives."""
        raw = self._partial_chunk + data
        payload = b""
        position = 0
        while (line_end := raw.find(b"\r\n", position)) >= 0:
            size = _chunk_size(raw[position:line_end])
            if size == 0:
                # A blank line ends the trailers; usually there are none.
                self.ended = raw.find(b"\r\n\r\n", line_end) >= 0
                break
            begin = line_end + 2
            end = begin + size
            if len(raw) < end + 2:
                break
            if raw[end : end + 2] != b"\r\n":
                raise EngineProtocolError
            payload += raw[begin:end]
            position = end + 2
        self._partial_chunk = raw[position:]
        if line_end < 0 and len(self._partial_chunk) > MAX_LINE_BYTES:
            raise EngineProtocolError
        return payload

    def _split_events(self, text: bytes) -> list[bytes]:
        """Return the complete events in ``text``, after what was left of the text before."""
        *complete, self._partial_event = (self._partial_event + text).split(b"\n\n")
        if len(self._partial_event) > MAX_EVENT_BYTES:
            raise EngineProtocolError
        return [event + b"\n\n" for event in complete if event and not event.startswith(b":")]


def _chunk_size(line: bytes) -> int:
    """Return the size in a chunk's first line. Raises EngineProtocolError if it is invalid or too large."""
    try:
        size = int(line.partition(b";")[0], 16)
    except ValueError as error:
        raise EngineProtocolError from error
    if not 0 <= size <= MAX_EVENT_BYTES:
        raise EngineProtocolError
    return size
