"""Noticing that a client hung up, at the moment it does: gunicorn tells only at the next write."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent

#: What a watcher of gevent's event loop is to wait for: bytes, or the end.
READ = 1


@contextmanager
def watched(environ: dict[str, Any], callback: Callable[[], None]) -> Iterator[None]:
    """Call ``callback`` when the client of a request closes its connection while the block runs.

    It runs in gevent's hub, so it must not block. Outside gunicorn there is no socket to watch, and nothing happens.
    """
    connection: socket.socket | None = environ.get("gunicorn.socket")
    if connection is None:
        yield
        return
    watcher = gevent.get_hub().loop.io(connection.fileno(), READ)

    def readable() -> None:
        # Once: bytes of a next request would make the socket readable for ever.
        watcher.stop()
        if _is_closed(connection):
            callback()

    watcher.start(readable)
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
