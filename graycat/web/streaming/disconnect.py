"""Notices at once that a client has disconnected. gunicorn itself notices only when it next writes to that client."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent

#: libev's flag: call back when the socket is readable, which it also is at the end of the stream.
READABLE = 1


@contextmanager
def on_disconnect(environ: dict[str, Any], callback: Callable[[], None]) -> Iterator[None]:
    """Call ``callback`` if the client of a request closes its connection while the block runs.

    The callback runs in gevent's hub, so it must not block. Outside gunicorn there is no socket to watch, and the
    callback is never called.
    """
    connection: socket.socket | None = environ.get("gunicorn.socket")
    if connection is None:
        yield
        return

    watcher = gevent.get_hub().loop.io(connection.fileno(), READABLE)

    def on_readable() -> None:
        # Once only: the bytes of a pipelined request keep the socket readable, and the event loop would spin.
        watcher.stop()
        if _is_closed(connection):
            callback()

    watcher.start(on_readable)
    try:
        yield
    finally:
        watcher.stop()
        watcher.close()


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
