"""Small real servers that stand where an engine or a broker would: what they answer is a script."""

from __future__ import annotations

import json
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import hiredis

#: Answers one request; the handler has read its body already.
Answer = Callable[["Handler"], None]


@dataclass
class Seen:
    """What a server answers, and what it has seen so far.

    ``hung_up``: a client closed its connection before its answer was whole.
    """

    answers: dict[str, Answer]
    url: str = ""
    requests: list[tuple[str, str, bytes]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    connections: int = 0
    asked: threading.Event = field(default_factory=threading.Event)
    hung_up: threading.Event = field(default_factory=threading.Event)

    def bodies(self) -> list[Any]:
        """Return the JSON bodies of the requests."""
        return [json.loads(body) for _, _, body in self.requests if body]


class Handler(BaseHTTPRequestHandler):
    """Looks the answer up by ``METHOD /path``; 404 where there is none, as engines do."""

    protocol_version = "HTTP/1.1"
    # A piece leaves when it is written.
    disable_nagle_algorithm = True
    seen: Seen

    def setup(self) -> None:
        super().setup()
        self.requests_answered = 0
        self.seen.connections += 1

    def respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.headers.append({name.lower(): value for name, value in self.headers.items()})
        self.seen.requests.append((self.command, self.path, body))
        self.seen.asked.set()
        answer = self.seen.answers.get(f"{self.command} {self.path}", reply(404, {"error": {"code": 404}}))
        try:
            answer(self)
        except ConnectionError:
            self.close_connection = True
            self.seen.hung_up.set()

    do_GET = do_POST = do_HEAD = respond  # noqa: N815 (http.server's names)

    def log_message(self, *_: Any) -> None:
        """Write nothing."""

    def piece(self, data: bytes) -> None:
        """Send one chunk of a chunked body."""
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def wait_for_hang_up(self) -> None:
        """Return when the client closes its connection."""
        self.close_connection = True
        with suppress(ConnectionError):
            self.connection.recv(1)
        self.seen.hung_up.set()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up; anything else is a mistake in a test."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def http_server(answers: Mapping[str, Answer], tls: ssl.SSLContext | None = None) -> Iterator[Seen]:
    """Run a server for the block; what it has seen says where it listens."""
    seen = Seen(dict(answers))
    server = Server(("127.0.0.1", 0), type("ScriptedHandler", (Handler,), {"seen": seen}))
    seen.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def reply(status: int, value: Any, *, keep: bool = False) -> Answer:
    """Return an answer in JSON. ``keep``: the connection may be used again."""

    def answer(handler: Handler) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        if not keep:
            handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def stream(*pieces: bytes, then: Callable[[Handler], None] | None = None) -> Answer:
    """Return an answer that sends ``pieces`` as they are, each by itself, and ends; or does ``then`` instead."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("Connection", "close")
        handler.end_headers()
        for piece in pieces:
            handler.piece(piece)
        if then is not None:
            then(handler)
        else:
            handler.wfile.write(b"0\r\n\r\n")

    return answer


def hold(handler: Handler) -> None:
    """Say nothing (more), until the client hangs up."""
    handler.wait_for_hang_up()


def drop(handler: Handler) -> None:
    """Close the connection in the middle."""
    handler.close_connection = True
    # The client may have gone first.
    with suppress(OSError):
        handler.connection.shutdown(socket.SHUT_RDWR)


def only_once(then: Answer) -> Answer:
    """Return an answer for the first request of a connection; at the second it is closed, as engines may."""

    def answer(handler: Handler) -> None:
        if handler.requests_answered:
            drop(handler)
        else:
            then(handler)
            handler.requests_answered += 1

    return answer


def after(gate: threading.Event, then: Answer) -> Answer:
    """Return an answer that waits for ``gate`` first."""

    def answer(handler: Handler) -> None:
        gate.wait()
        then(handler)

    return answer


#: In place of a reply.
HANG_UP = b""
LOADING = b"-LOADING Valkey is loading the dataset in memory"


@contextmanager
def broker_that_says(path: Path, replies: list[bytes]) -> Iterator[None]:
    """Run a broker for the block that takes its ``replies`` one by one, then says PONG; a handshake is none of them."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                threading.Thread(target=converse, args=(connection, replies), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def converse(connection: socket.socket, replies: list[bytes]) -> None:
    """Answer one client's commands until it goes."""
    reader = hiredis.Reader()
    with connection, suppress(ConnectionError):
        while data := connection.recv(65536):
            reader.feed(data)
            while (command := reader.gets()) is not False:
                if command[0] == b"HELLO":
                    connection.sendall(b"%1\r\n$5\r\nproto\r\n:3\r\n")
                elif command[0] == b"CLIENT":
                    connection.sendall(b"+OK\r\n")
                elif (reply := replies.pop(0) if replies else b"+PONG") == HANG_UP:
                    return
                else:
                    connection.sendall(reply + b"\r\n")
