"""The web application behind a real socket, and a hand that cuts its connections."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server


class Handler(WSGIRequestHandler):
    """Speaks HTTP/1.1, so that streams come in chunks, and keeps connections."""

    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:
        """Write nothing."""


class LiveServer:
    """A server, the headers of the requests it got, and the cuts it is to make.

    ``cuts``: for each of the next requests, how many pieces of its answer arrive before the connection breaks; at 0 the
    request is carried out and its client hears nothing. None: the answer arrives.
    """

    def __init__(self) -> None:
        self.url = ""
        self.cuts: list[int | None] = []
        self.requests: list[dict[str, Any]] = []

    def forget(self) -> None:
        """Begin anew."""
        self.cuts, self.requests = [], []

    def asked(self, method: str, path: str) -> list[dict[str, Any]]:
        """Return the environs of the requests to a path."""
        found = [environ for environ in self.requests if environ["PATH_INFO"] == path]
        return [environ for environ in found if environ["REQUEST_METHOD"] == method]

    def around(self, app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        """Return an application whose answers are cut."""

        def cutting(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            self.requests.append(environ)
            cut = self.cuts.pop(0) if self.cuts else None
            answer = app(environ, start_response)
            return answer if cut is None else cut_off(answer, cut, environ["werkzeug.socket"])

        return cutting


def cut_off(answer: Iterable[bytes], pieces: int, connection: socket.socket) -> Iterator[bytes]:
    """Yield the first pieces of an answer, then break its connection."""
    source = iter(answer)
    try:
        for _ in range(pieces):
            yield next(source)
    finally:
        close = getattr(answer, "close", None)
        if close is not None:
            close()
        connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionResetError


@contextmanager
def serving(app: Flask) -> Iterator[LiveServer]:
    """Serve an application for the block."""
    live = LiveServer()
    server = make_server("127.0.0.1", 0, live.around(app), threaded=True, request_handler=Handler)
    live.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield live
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
