"""The front of a web process in a test's own thread: gunicorn's worker with its guard, real sockets, any WSGI app."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import gevent
from gevent import socket
from gevent.pool import Pool

from graycat.cli.web import PropagatingLogger, WebServer
from graycat.front import worker
from graycat.front.connection import Connection
from graycat.front.guard import Guard
from graycat.front.server import GuardedServer
from graycat.front.worker import GuardedWorker
from graycat.settings import Settings

#: Far more than anything here takes, in seconds.
PATIENCE_S = 60.0
GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"

App = Callable[[dict[str, Any], Callable[..., Any]], Any]


def hello(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Answer with a word."""
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]


class Front:
    """A running front."""

    def __init__(self, worker: GuardedWorker, server: GuardedServer) -> None:
        self.worker = worker
        self.guard: Guard = worker.guard
        self.server = server
        self.port = int(server.server_port or 0)
        self.clients: list[Any] = []

    def connect(self, *data: bytes, host: str = "127.0.0.1", receive: int = 0) -> Any:
        """Return a new connection (gevent's) from an address, over which some bytes were sent."""
        client = socket.socket()
        self.clients.append(client)
        client.settimeout(PATIENCE_S)
        if receive:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        client.bind((host, 0))
        client.connect(("127.0.0.1", self.port))
        for piece in data:
            client.sendall(piece)
        return client

    def connections(self) -> list[Connection]:
        """Return the connections that are open."""
        return [place for members in self.guard.places._members.values() for place in members]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Let everything run until a condition holds."""
        with gevent.Timeout(PATIENCE_S, AssertionError("it did not happen in time")):
            while not condition():
                gevent.sleep(0.002)

    def ends(self, client: Any) -> bytes:
        """Return what a connection brings up to its end."""
        found = b""
        try:
            while data := client.recv(65536):
                found += data
        except ConnectionResetError:
            pass
        return found


@contextmanager
def front(app: App = hello, *, for_proxies: bool = False, **changes: Any) -> Iterator[Front]:
    """Run a front for the block, with some settings changed; no address is a proxy's unless they say so.

    ``for_proxies``: its port is the one for the PROXY protocol.
    """
    listener = socket.socket()
    # Less than a big answer, also if the kernel would rather keep all of it.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 200_000)
    listener.bind(("127.0.0.1", 0))
    listener.listen(512)
    if for_proxies:
        changes["proxy_protocol_port"] = listener.getsockname()[1]
    settings = Settings(**{"trusted_addresses": "", **changes})
    cfg = WebServer(settings).cfg
    running = GuardedWorker(0, 0, [], SimpleNamespace(settings=settings), 30, cfg, PropagatingLogger(cfg))
    running.wsgi = app
    thresholds = gc.get_threshold()
    running.prepare()
    pool = Pool(settings.max_connections + 1000)
    server = running._make_server(listener, spawn=pool)
    server.start()
    before, worker.SWEEP_S = worker.SWEEP_S, 0.01
    watch = gevent.spawn(running._watch)
    found = Front(running, server)
    try:
        yield found
    finally:
        watch.kill()
        worker.SWEEP_S = before
        for client in found.clients:
            client.close()
        server.stop(timeout=PATIENCE_S)
        running.turns.close()
        running.guard.woken.close()
        running.tmp.close()
        gc.set_threshold(*thresholds)
