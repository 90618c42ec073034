"""A streamed answer of an engine, read as its bytes come and without ever waiting for them."""

from __future__ import annotations

import socket
from http.client import HTTPResponse
from typing import Any

from graycat.engines.client import READ_BYTES
from graycat.errors import EngineLost, EngineProtocolError

#: An event, or a chunk, that is longer than this makes no sense.
LONGEST_BYTES = 16 * 1024 * 1024
#: As for a chunk's first line.
LONGEST_LINE_BYTES = 4096


class EventStream:
    """The server-sent events of one response.

    http.client's own reader is left behind once the headers are read: it waits, and costs a token as much as
    everything else here. ``fileno`` makes this selectable.
    """

    def __init__(self, connected: socket.socket, response: HTTPResponse) -> None:
        self._socket = connected
        self._chunked = bool(getattr(response, "chunked", False))
        #: Bytes that are to come of an answer whose length the headers tell.
        self._left = response.length
        self._raw = b""
        self._text = b""
        self.ended = False
        #: The connection was reset. Its socket tells so once, and looks closed from then on.
        self._broken = False
        connected.setblocking(False)
        # What came together with the headers. Nothing is waited for here, so there may be none.
        buffered: Any = response.fp
        self._early: bytes = buffered.peek() or b""
        if self._early:
            buffered.read1(len(self._early))

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.fileno()

    def read(self) -> list[bytes]:
        """Return the events that are here and whole, each with the blank line behind it; comments are dropped.

        ``ended`` is set behind the last one. Raises EngineLost where the answer breaks off.
        """
        data, self._early = self._early, b""
        hung_up = False
        try:
            piece = self._socket.recv(READ_BYTES)
            data, hung_up = data + piece, not piece
        except BlockingIOError:
            pass
        except OSError:
            hung_up = self._broken = True
        events = self._one(data) or self._events(self._body(data))
        # What came before is worth having: the next read finds the same end.
        if hung_up and not self.ended and not events:
            if self._chunked or self._left is not None or self._broken:
                raise EngineLost
            self.ended = True
        return events

    def _one(self, data: bytes) -> list[bytes] | None:
        """Return the event where ``data`` is one whole chunk with one whole event, as nearly always; else None."""
        if not self._chunked or self._raw or self._text or not data.endswith(b"\n\n\r\n"):
            return None
        line, _, rest = data.partition(b"\r\n")
        if data.count(b"\n\n") != 1 or rest.startswith(b":") or _chunk_size(line) != len(rest) - 2:
            return None
        return [rest[:-2]]

    def _body(self, data: bytes) -> bytes:
        """Return the part of the body in ``data``; sets ``ended`` where the framing tells the end."""
        if self._chunked:
            return self._unchunked(data)
        if self._left is not None:
            self._left -= len(data)
            self.ended = self._left <= 0
        return data

    def _unchunked(self, data: bytes) -> bytes:
        """Undo the chunked transfer coding (RFC 9112, 7.1); half a chunk waits for its rest."""
        raw, payload, place = self._raw + data, b"", 0
        while (line_end := raw.find(b"\r\n", place)) >= 0:
            size = _chunk_size(raw[place:line_end])
            if size == 0:
                # A blank line ends the trailers, of which there are none as a rule.
                self.ended = raw.find(b"\r\n\r\n", line_end) >= 0
                break
            begin, end = line_end + 2, line_end + 2 + size
            if len(raw) < end + 2:
                break
            if raw[end : end + 2] != b"\r\n":
                raise EngineProtocolError
            payload += raw[begin:end]
            place = end + 2
        self._raw = raw[place:]
        if line_end < 0 and len(self._raw) > LONGEST_LINE_BYTES:
            raise EngineProtocolError
        return payload

    def _events(self, text: bytes) -> list[bytes]:
        *whole, self._text = (self._text + text).split(b"\n\n")
        if len(self._text) > LONGEST_BYTES:
            raise EngineProtocolError
        return [event + b"\n\n" for event in whole if event and not event.startswith(b":")]


def _chunk_size(line: bytes) -> int:
    """Return the size in a chunk's first line. Raises EngineProtocolError."""
    try:
        size = int(line.partition(b";")[0], 16)
    except ValueError as error:
        raise EngineProtocolError from error
    if not 0 <= size <= LONGEST_BYTES:
        raise EngineProtocolError
    return size
