"""What a streamed response sends under gevent, as in gunicorn's workers, to clients that read and clients that do not.

It runs in a process of its own (``python -m gevent.monkey --module``) and prints what it saw as JSON.
"""

from __future__ import annotations

import json
import socket
from typing import Any

import gevent

from graycat.errors import EngineLost, GraycatError
from graycat.queue.events import CHUNK, ERROR, RESULT, TaskEvent, answer
from graycat.web.streaming.direct import DirectWriter
from graycat.web.streaming.formats import LLAMACPP
from graycat.web.streaming.requests import PendingTask
from graycat.web.streaming.responses import _stream_chunks
from graycat.web.streaming.subscription import Subscription

#: Far more than both ends of a connection hold together.
MANY = [b"data: %d %b\n\n" % (number, b"x" * (number * 37 % 2900)) for number in range(1000)]
FEW = MANY[:20]


class Response:
    """A streamed response between a hub, which is the test, and a client."""

    def __init__(self, *, with_writer: bool = True, keepalive_s: float = 5.0, holds: int = 4096) -> None:
        """``holds``: how many unread bytes each end of the connection holds."""
        self.server, self.client = socket.socketpair()
        for end in (self.server, self.client):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.setsockopt(socket.SOL_SOCKET, option, holds)
        self.subscription = Subscription("a")
        gateway: Any = None
        self.pending = PendingTask(gateway, self.subscription, (60.0, 60.0), "llm.completion")
        self.writer = DirectWriter(self.server, LLAMACPP.encode_event) if with_writer else None
        self.written = 0
        self._sent = 1
        self.greenlet = gevent.spawn(self._serve, keepalive_s)

    def _serve(self, keepalive_s: float) -> None:
        """Write what the response yields as gunicorn does."""
        first = self.pending.next_event(60.0)
        for piece in _stream_chunks(self.pending, first, LLAMACPP, keepalive_s, self.writer):
            self.written += 1
            self.server.sendall(b"%X\r\n%b\r\n" % (len(piece), piece))
        self.server.sendall(b"0\r\n\r\n")

    def put(self, kind: str, data: bytes) -> None:
        """Deliver an event, as the hub does."""
        self.subscription.put(TaskEvent(f"1-{self._sent}", kind, data))
        self._sent += 1

    def chunk(self, data: bytes) -> None:
        """Deliver a chunk, and let the response's greenlet run."""
        self.put(CHUNK, data)
        gevent.sleep(0)

    def read(self) -> list[bytes]:
        """Return the chunks of the body, at its end."""
        body = b""
        while not body.endswith(b"\r\n0\r\n\r\n"):
            body += self.client.recv(65536)
        chunks = []
        while body:
            size, _, body = body.partition(b"\r\n")
            chunks.append(body[: int(size, 16)])
            body = body[int(size, 16) + 2 :]
        self.client.close()
        self.server.close()
        return chunks[:-1]


def send_to_a_reader() -> dict[str, Any]:
    response = Response(holds=200_000)
    reader = gevent.spawn(response.read)
    for event in MANY:
        response.chunk(event)
        # Not before the client has read it: a socket with room is what this is about.
        gevent.idle()
    response.put(RESULT, answer(200, b""))
    return {"whole": reader.get(timeout=20) == MANY, "by the server": response.written}


def send_to_a_late_reader(last: GraycatError | None = None) -> bool:
    response = Response()
    for event in MANY:
        response.chunk(event)
    if last is None:
        response.put(RESULT, answer(200, b""))
    else:
        response.put(ERROR, answer(last.status, last.encoded()))
    reader = gevent.spawn(response.read)
    wanted = MANY if last is None else [*MANY, b"data: " + last.encoded() + b"\n\n"]
    return bool(reader.get(timeout=20) == wanted)


def send_without_a_writer() -> int:
    response = Response(with_writer=False)
    for event in FEW:
        response.chunk(event)
    response.put(RESULT, answer(200, b""))
    assert gevent.spawn(response.read).get(timeout=20) == FEW
    return response.written


def count_keepalives() -> list[int]:
    """Return how many keep-alives came while chunks did, and while none did."""
    response = Response(keepalive_s=0.2)
    reader = gevent.spawn(response.read)
    response.chunk(b"data: 1\n\n")
    for number in range(8):
        gevent.sleep(0.05)
        response.chunk(b"data: %d\n\n" % number)
    busy = response.written - 1
    gevent.sleep(0.5)
    response.put(RESULT, answer(200, b""))
    assert reader.get(timeout=20).count(b"\n") == response.written - 1
    return [busy, response.written - 1]


def send_to_a_disconnected_client() -> str:
    response = Response()
    response.chunk(FEW[0])
    response.client.close()
    for event in FEW[1:]:
        response.chunk(event)
    try:
        response.greenlet.get(timeout=20)
    except OSError as error:
        return type(error).__name__
    finally:
        response.server.close()
    return "nothing"


def main() -> None:
    seen = {
        "reader": send_to_a_reader(),
        "late": send_to_a_late_reader(),
        "late error": send_to_a_late_reader(EngineLost()),
        "without": send_without_a_writer(),
        "keepalives": count_keepalives(),
        "disconnected": send_to_a_disconnected_client(),
    }
    print(json.dumps(seen))  # noqa: T201 (its output is its result)


if __name__ == "__main__":
    main()
