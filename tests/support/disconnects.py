"""What ``on_disconnect`` does under gevent, as in gunicorn's workers.

It runs in a process of its own (``python -m gevent.monkey --module``, which patches before anything is imported) and
prints what it saw as JSON.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event

from graycat.loops.unexpected import UNEXPECTED
from graycat.web.streaming.disconnect import POLL_INTERVAL_S, on_disconnect


class CountingSocket:
    """A server's end of a connection that counts how often it is read."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self.reads = 0

    def fileno(self) -> int:
        return self._server.fileno()

    def recv(self, size: int, flags: int) -> bytes:
        self.reads += 1
        return self._server.recv(size, flags)


def is_noticed(act: Callable[[socket.socket], Any], wait_s: float = 1.0) -> bool:
    """Return whether the callback runs if the client ``act``s while its request waits."""
    server, client = socket.socketpair()
    disconnected = Event()
    with server, client, on_disconnect({"gunicorn.socket": server}, disconnected.set):
        gevent.spawn(act, client)
        return disconnected.wait(wait_s) is True


def is_noticed_after_the_block() -> bool:
    """Return whether the callback runs if the client closes its connection after the block."""
    server, client = socket.socketpair()
    disconnected = Event()
    with server, client:
        with on_disconnect({"gunicorn.socket": server}, disconnected.set):
            pass
        client.close()
        return disconnected.wait(0.1) is True


def is_noticed_without_a_socket() -> bool:
    """Return whether the callback runs if there is no socket to watch."""
    disconnected = Event()
    with on_disconnect({}, disconnected.set):
        return disconnected.wait(0.05) is True


def block_ends_after_our_close() -> bool:
    """Return whether the block can end after the server has closed its own end."""
    server, client = socket.socketpair()
    with client, on_disconnect({"gunicorn.socket": server}, lambda: None):
        client.close()
        gevent.sleep(0.01)
        server.close()
    return True


def reads_of_a_pipelined_byte() -> int:
    """Return how often the socket is read while a byte of the client's next request waits in it."""
    server, client = socket.socketpair()
    connection = CountingSocket(server)
    with server, client, on_disconnect({"gunicorn.socket": connection}, lambda: None):
        client.sendall(b"P")
        gevent.sleep(0.1)
    return connection.reads


def sends_more_and(act: Callable[[socket.socket], Any], more: bytes) -> Callable[[socket.socket], None]:
    """Return what a client does that sends more than its request, and a while later ``act``s."""

    def send_and_act(client: socket.socket) -> None:
        client.sendall(more)
        gevent.sleep(0.1)
        act(client)

    return send_and_act


def bytes_left_for_the_server() -> str:
    """Return what the server reads after a request whose client has sent its next request early."""
    server, client = socket.socketpair()
    with server, client:
        with on_disconnect({"gunicorn.socket": server}, lambda: None):
            client.sendall(b"POST /next")
            gevent.sleep(2 * POLL_INTERVAL_S)
        return server.recv(100).decode()


def is_noticed_beside_a_callback_that_raises() -> bool:
    """Return whether one client's end is noticed and another's error counted."""

    def fail() -> None:
        raise KeyError("task")

    server, client = socket.socketpair()
    with server, client, on_disconnect({"gunicorn.socket": server}, fail):
        client.close()
        noticed = is_noticed(lambda other: other.close())
    return noticed and UNEXPECTED.labels("disconnect watcher")._value.get() == 1


def reset(client: socket.socket) -> None:
    """Close as a client does that leaves bytes unread."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()


def main() -> None:
    seen = {
        "close": is_noticed(lambda client: client.close()),
        "half close": is_noticed(lambda client: client.shutdown(socket.SHUT_WR)),
        "reset": is_noticed(reset),
        "nothing": is_noticed(lambda client: None, 0.1),
        "more bytes": is_noticed(lambda client: client.sendall(b"POST /next"), 0.1),
        "more bytes for long": is_noticed(lambda client: client.sendall(b"POST /next"), 4 * POLL_INTERVAL_S),
        "line end and close": is_noticed(sends_more_and(lambda client: client.close(), b"\r\n")),
        "next request and close": is_noticed(sends_more_and(lambda client: client.close(), b"GET / HTTP/1.1\r\n\r\n")),
        "many bytes and close": is_noticed(sends_more_and(lambda client: client.close(), b"x" * 100_000)),
        "line end and half close": is_noticed(sends_more_and(lambda client: client.shutdown(socket.SHUT_WR), b"\r\n")),
        "line end and reset": is_noticed(sends_more_and(reset, b"\r\n")),
        "bytes left for the server": bytes_left_for_the_server(),
        "after the block": is_noticed_after_the_block(),
        "without a socket": is_noticed_without_a_socket(),
        "closed by us": block_ends_after_our_close(),
        "reads of a pipelined byte": reads_of_a_pipelined_byte(),
        "beside a callback that raises": is_noticed_beside_a_callback_that_raises(),
    }
    print(json.dumps(seen))  # noqa: T201 (its output is its result)


if __name__ == "__main__":
    main()
