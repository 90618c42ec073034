"""Readers as strict as Unity's: what "LLM for Unity" v3 and v2 make of the bytes of an answer.

Each fails where its original does, so a stream that both can read is one that a game can read.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

#: The v3 client's socket buffer; it reads nothing beyond it at once.
V3_BUFFER = 4096
#: libcurl's, under the v2 client.
V2_BUFFER = 16384
#: Seconds without a byte after which an answer counts as hung.
SILENCE_S = 180.0


class BrokenAnswer(Exception):
    """Raised where the client gives an answer up; the game gets an empty one."""


class ErrorAnswer(BrokenAnswer):
    """Raised where the answer is an error: an HTTP status, or an event (``status`` is that of its code)."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body


@dataclass
class Answer:
    """What the game gets: the text, the token ids, and the events they came in."""

    content: str = ""
    tokens: list[int] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    keepalives: int = 0

    def add(self, event: dict[str, Any]) -> None:
        """Take one event."""
        self.events.append(event)
        self.content += event["content"]
        self.tokens += event.get("tokens", [])


class ReadBuffer:
    """A socket read through a buffer that is filled again only when it is empty."""

    def __init__(self, connection: socket.socket, size: int) -> None:
        self._connection = connection
        self._size = size
        self._left = b""

    def take(self, most: int) -> bytes:
        """Return up to ``most`` bytes, never of two fills; nothing at the end."""
        if not self._left:
            self._left = self._connection.recv(self._size)
        taken, self._left = self._left[:most], self._left[most:]
        return taken

    def line(self) -> bytes:
        """Return the next line, without its end."""
        line = b""
        while not line.endswith(b"\n"):
            byte = self.take(1)
            if not byte:
                raise BrokenAnswer(f"the connection ends in the line {line!r}")
            line += byte
        return line.strip()


def send_post(
    url: str,
    path: str,
    body: Any,
    token: str = "",
    headers: Mapping[str, str] | None = None,
    method: str = "POST",
    connection: socket.socket | None = None,
) -> socket.socket:
    """Send a request as a game does, and return the connection with the answer unread.

    ``connection``: one that is open already, such as over TLS.
    """
    address = urlsplit(url)
    content = json.dumps(body).encode()
    given = {"Content-Type": "application/json", "Accept": "text/event-stream", "Connection": "close"}
    given |= {"Host": address.netloc, "Content-Length": str(len(content)), **(headers or {})}
    if token:
        given["Authorization"] = f"Bearer {token}"
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    if connection is None:
        connection = socket.create_connection((str(address.hostname), address.port or 80), timeout=SILENCE_S)
    connection.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + content)
    return connection


def read_head(buffer: ReadBuffer) -> tuple[int, dict[str, str]]:
    """Return an answer's status and headers, their names in small letters."""
    status = int(buffer.line().split()[1])
    headers = {}
    while line := buffer.line().decode():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return status, headers


def read_pieces(buffer: ReadBuffer, headers: Mapping[str, str]) -> Iterator[tuple[int, bytes]]:
    """Yield an answer's body as it is read: the number of its HTTP chunk, and a piece that never spans two fills."""
    if "chunked" not in headers.get("transfer-encoding", ""):
        for piece in _exactly(buffer, int(headers["content-length"])):
            yield 0, piece
        return
    number = 0
    while size := int(buffer.line(), 16):
        for piece in _exactly(buffer, size):
            yield number, piece
        if buffer.line():
            raise BrokenAnswer(f"chunk {number} is longer than it says")
        number += 1
    buffer.line()


def _exactly(buffer: ReadBuffer, size: int) -> Iterator[bytes]:
    while size:
        piece = buffer.take(size)
        if not piece:
            raise BrokenAnswer(f"the connection ends {size} bytes early")
        size -= len(piece)
        yield piece


def read_chunks(connection: socket.socket) -> list[bytes]:
    """Return an answer's HTTP chunks, whole."""
    buffer = ReadBuffer(connection, V2_BUFFER)
    _, headers = read_head(buffer)
    chunks: dict[int, bytes] = {}
    for number, piece in read_pieces(buffer, headers):
        chunks[number] = chunks.get(number, b"") + piece
    return list(chunks.values())


class V3Reader:
    """The v3 client: each piece that it reads of the body must be one event."""

    def read(self, connection: socket.socket) -> Answer:
        """Return the answer that comes on a connection, read to its end."""
        buffer = ReadBuffer(connection, V3_BUFFER)
        status, headers = read_head(buffer)
        answer = Answer()
        if status >= 400:
            body = b"".join(piece for _, piece in read_pieces(buffer, headers))
            raise ErrorAnswer(status, _json(body.decode()))
        for _, piece in read_pieces(buffer, headers):
            self._take(piece, answer)
        if not answer.events or not answer.events[-1].get("stop"):
            raise BrokenAnswer("the answer ends without a stop")
        return answer

    def _take(self, piece: bytes, answer: Answer) -> None:
        text = _text(piece)
        if not text.strip("\r\n"):
            answer.keepalives += 1
            return
        if answer.events and answer.events[-1].get("stop"):
            raise BrokenAnswer(f"something follows the stop: {text!r}")
        answer.add(_event(text.removeprefix("data: ").rstrip("\r\n")))


class V2Reader:
    """The v2 and v1 clients: the body so far is parsed whole, at every tick and at the end."""

    def read(self, connection: socket.socket) -> Answer:
        """Return the answer that comes on a connection, read to its end."""
        buffer = ReadBuffer(connection, V2_BUFFER)
        status, headers = read_head(buffer)
        answer, body = Answer(), b""
        for _, piece in read_pieces(buffer, headers):
            body += piece
            if status < 400:
                answer = self._parse(_text(body))
        if status >= 400:
            raise ErrorAnswer(status, _json(body.decode()))
        if not answer.events or not answer.events[-1].get("stop"):
            raise BrokenAnswer("the answer ends without a stop")
        return answer

    @staticmethod
    def _parse(text: str) -> Answer:
        answer = Answer()
        lines = "\n".join(line for line in text.split("\n") if line.strip())
        for part in lines.split("data: "):
            if part:
                answer.add(_event(part))
        return answer


def _text(piece: bytes) -> str:
    try:
        return piece.decode()
    except UnicodeDecodeError as error:
        raise BrokenAnswer(f"a character is cut in two: {piece!r}") from error


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BrokenAnswer(f"not JSON: {text!r}") from error


def _event(text: str) -> dict[str, Any]:
    event = _json(text)
    if not isinstance(event, dict):
        raise BrokenAnswer(f"not an object: {text!r}")
    if "error" in event:
        raise ErrorAnswer(event["error"]["code"], event)
    if not isinstance(event.get("content"), str):
        raise BrokenAnswer(f"no content: {text!r}")
    return event
