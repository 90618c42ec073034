"""Reads an engine's streamed response as its bytes arrive, without ever waiting for them.

The format of events is WHATWG's (HTML standard, 9.2.6 "Interpreting an event stream"); engines, and what stands before
them, write it in all its forms.
"""

from __future__ import annotations

import re
import socket
from http.client import HTTPResponse
from typing import Any

from graycat.engines.client import READ_BYTES
from graycat.errors import EngineLost, EngineProtocolError

#: The longest event and the longest chunk that are accepted.
MAX_EVENT_BYTES = 16 * 1024 * 1024
#: The longest first line of a chunk, and the longest trailers, that are accepted.
MAX_LINE_BYTES = 4096

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
#: An event of one line of data, and its blank line.
_LINES_OF_EVENT = 2
_NAMED_EVENT = re.compile(rb"event: [^\n]+\ndata: \{[^\n]*\n\n\Z")
_HEX_DIGITS = frozenset(b"0123456789abcdefABCDEF")


class EventParser:
    """Turns the text of an event stream, cut anywhere, into events in one form.

    That form is ``data: TEXT`` and a blank line, behind ``event: NAME`` if the event has a name. Lines of data are
    joined by a space: in JSON they can only part values. Comments, ``id`` and ``retry`` are left out, because the
    reader of this stream has ids of its own, and so is an event without data.
    """

    def __init__(self) -> None:
        #: Whether nothing of an event, and no half of a line's end, has been read: the next byte may begin an event.
        self.is_idle = True
        #: The first bytes of the text while they may be a byte order mark; None from then on.
        self._head: bytes | None = b""
        #: Whether the last byte was a CR: a LF behind it belongs to the same line's end.
        self._after_cr = False
        #: The pieces of an incomplete line, and the lines of data of an incomplete event.
        self._line: list[bytes] = []
        self._data: list[bytes] = []
        self._name = b""
        #: Bytes of the first, and of the second.
        self._line_bytes = 0
        self._data_bytes = 0

    def skip_head(self) -> None:
        """Note that the text has begun, without a byte order mark."""
        self._head = None

    def feed(self, text: bytes) -> list[bytes]:
        """Return the events that ``text`` completes. Raises EngineProtocolError if one is too long."""
        text = self._skip_line_feed(self._skip_mark(text))
        if not text:
            return []
        if b"\r" in text:
            self._after_cr = text.endswith(b"\r")
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        events: list[bytes] = []
        first, *lines = text.split(b"\n")
        self._line.append(first)
        self._line_bytes += len(first)
        for following in lines:
            self._take_line(b"".join(self._line), events)
            self._line, self._line_bytes = [following], len(following)
        if self._line_bytes + self._data_bytes > MAX_EVENT_BYTES:
            raise EngineProtocolError("an event of its stream is longer than any")
        self.is_idle = not (self._line_bytes or self._data or self._name or self._after_cr)
        return events

    def _skip_line_feed(self, text: bytes) -> bytes:
        """Return the text without the second half of a line's end."""
        if self._after_cr and text:
            self._after_cr = False
            return text.removeprefix(b"\n")
        return text

    def _skip_mark(self, text: bytes) -> bytes:
        """Return the text without the byte order mark that it may begin with."""
        if self._head is None or not text:
            return text
        head = self._head + text
        if len(head) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(head):
            self._head = head
            self.is_idle = False
            return b""
        self._head = None
        return head.removeprefix(_BYTE_ORDER_MARK)

    def _take_line(self, line: bytes, events: list[bytes]) -> None:
        """Read a line; add the event that it ends."""
        if not line:
            data = b" ".join(self._data)
            # One without any says nothing, and breaks who expects JSON in it.
            if data.strip():
                events.append(_write_event(self._name, data))
            self._data, self._data_bytes, self._name = [], 0, b""
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            self._name = value
        elif field in (b"data", b"error"):
            if field == b"error":
                # llama.cpp's servers of 2023 and 2024, and undreamai_server with them, have a field for an error.
                self._name = field
            self._data.append(value)
            self._data_bytes += len(value) + 1


def _write_event(name: bytes, data: bytes) -> bytes:
    if name:
        return b"event: " + name + b"\ndata: " + data + b"\n\n"
    return b"data: " + data + b"\n\n"


class ChunkDecoder:
    """Decodes the chunked transfer coding (RFC 9112, 7.1), cut anywhere."""

    def __init__(self) -> None:
        #: Whether the last chunk and the trailers were read.
        self.ended = False
        #: Whether the next byte begins a chunk.
        self.is_idle = True
        #: The part of a chunk's first line, of a chunk's end or of the trailers that has arrived.
        self._partial = b""
        #: Bytes of the chunk that have not arrived, and whether its CRLF has not; whether only trailers follow.
        self._remaining = 0
        self._is_closing = False
        self._in_trailers = False

    def decode(self, data: bytes) -> bytes:
        """Return the payload in the next bytes. Raises EngineProtocolError if they make no sense."""
        raw = self._partial + data
        pieces: list[bytes] = []
        position = 0
        while position < len(raw) and not self.ended:
            if self._remaining:
                piece = raw[position : position + self._remaining]
                pieces.append(piece)
                position += len(piece)
                self._remaining -= len(piece)
                continue
            line_end = raw.find(b"\r\n", position)
            if line_end < 0:
                break
            self._take_line(raw[position:line_end])
            position = line_end + 2
        self._partial = raw[position:]
        self._check_partial()
        self.is_idle = not (self._partial or self._remaining or self._is_closing or self._in_trailers)
        return b"".join(pieces)

    def _take_line(self, line: bytes) -> None:
        if self._is_closing:
            if line:
                raise EngineProtocolError("a chunk of it is longer than it says")
            self._is_closing = False
        elif self._in_trailers:
            self.ended = not line
        else:
            self._remaining = parse_chunk_size(line)
            self._is_closing = self._remaining > 0
            self._in_trailers = not self._is_closing

    def _check_partial(self) -> None:
        """Raise EngineProtocolError if what has arrived cannot become a line that is expected here."""
        if self._is_closing and not self._remaining and not b"\r\n".startswith(self._partial):
            raise EngineProtocolError("a chunk of it is longer than it says")
        if len(self._partial) > MAX_LINE_BYTES and not self.ended:
            raise EngineProtocolError("a line between its chunks is longer than any")


def parse_chunk_size(line: bytes) -> int:
    """Return the size in a chunk's first line. Raises EngineProtocolError if it is invalid or too large."""
    digits = line.partition(b";")[0].strip()
    if not digits or not _HEX_DIGITS.issuperset(digits):
        raise EngineProtocolError("a chunk of it has no size")
    size = int(digits, 16)
    if size > MAX_EVENT_BYTES:
        raise EngineProtocolError("a chunk of it is larger than any event")
    return size


class EventStream:
    """The server-sent events of one response.

    http.client's own reader is not used once the headers are read: it waits, and costs as much time for a token as
    everything else here. ``fileno`` makes the stream usable with ``select``.
    """

    def __init__(self, sock: socket.socket, response: HTTPResponse) -> None:
        self._sock = sock
        self._parser = EventParser()
        self._chunks: ChunkDecoder | None = None
        if getattr(response, "chunked", False):
            self._chunks = ChunkDecoder()
        #: Whether the body is chunked and its next byte begins a chunk and an event; whether it has begun at all.
        self._is_between_events = self._chunks is not None
        self._has_begun = False
        #: Bytes of the body that have not arrived, if the headers tell its length.
        self._remaining = response.length
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
        """Return the complete events that have arrived, each as ``EventParser`` writes it.

        Sets ``ended`` with the last event. Raises EngineLost if the response breaks off, EngineProtocolError if its
        bytes make no sense.
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
        events = self._single_event(data)
        if events is None:
            events = self._parser.feed(self._decode_body(data))
            self._is_between_events = self._parser.is_idle and self._chunks is not None and self._chunks.is_idle
        # Events before the end are returned first: the next read finds the same end.
        if closed and not self.ended and not events:
            if self._chunks is not None or self._remaining is not None or self._reset:
                raise EngineLost
            self.ended = True
        return events

    def _single_event(self, data: bytes) -> list[bytes] | None:
        """Return the event if ``data`` is exactly one chunk with exactly one event, which is the usual case; else None.

        It has the form that ``EventParser`` writes. This shortcut saves time for every token.
        """
        if not self._is_between_events or not data.endswith(b"}\n\n\r\n"):
            return None
        line, _, rest = data.partition(b"\r\n")
        event = rest[:-2]
        if line != b"%x" % len(event) or b"\r" in event:
            return None
        # One line of data, behind the line of a name if there is one.
        if event.startswith(b"data: {"):
            is_single = event.count(b"\n") == _LINES_OF_EVENT
        else:
            is_single = bool(_NAMED_EVENT.match(event))
        if not is_single:
            return None
        if not self._has_begun:
            self._has_begun = True
            self._parser.skip_head()
        return [event]

    def _decode_body(self, data: bytes) -> bytes:
        """Return the part of the body in ``data``; set ``ended`` if the framing shows the end."""
        if self._chunks is not None:
            payload = self._chunks.decode(data)
            self.ended = self._chunks.ended
            return payload
        if self._remaining is not None:
            self._remaining -= len(data)
            self.ended = self._remaining <= 0
        return data
