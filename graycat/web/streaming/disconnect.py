"""Notices at once that a client has disconnected. gunicorn itself notices only when it next writes to that client."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
from gevent.monkey import get_original

from graycat.loops.unexpected import guarded

#: libev's flag: call back when the socket is readable, which it also is at the end of the stream.
READABLE = 1
#: Seconds between two checks of a connection whose client has sent more than its request.
POLL_INTERVAL_S = 0.25
#: The client has closed its end, or the connection is broken. poll() says so also if unread bytes come first.
CLOSED = select.POLLRDHUP | select.POLLHUP | select.POLLERR | select.POLLNVAL
#: The system's own poll(). gevent's would yield to other greenlets, which a callback of the event loop must not.
_POLL = get_original("select", "poll")


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

    loop = gevent.get_hub().loop
    watcher = loop.io(connection.fileno(), READABLE)
    # Only started for a client that has sent more than its request: a line end, or its next request.
    timer = loop.timer(POLL_INTERVAL_S, repeat=POLL_INTERVAL_S)

    def on_readable() -> None:
        # Once only: the bytes of a pipelined request keep the socket readable, and the event loop would spin. They stay
        # in the socket, for the server to read after this request.
        watcher.stop()
        # gevent would only print what a callback raises.
        with guarded("disconnect watcher"):
            if _is_closed(connection):
                callback()
            else:
                timer.start(on_timer)

    def on_timer() -> None:
        with guarded("disconnect watcher"):
            if _is_shut_down(connection):
                timer.stop()
                callback()

    watcher.start(on_readable)
    try:
        yield
    finally:
        for active in (watcher, timer):
            active.stop()
            active.close()


def _is_shut_down(connection: socket.socket) -> bool:
    """Return whether the client has closed its end, also if bytes of it are still unread."""
    poll = _POLL()
    try:
        poll.register(connection.fileno(), CLOSED)
    except (OSError, ValueError):
        # The server has closed its own end: there is no file descriptor any more.
        return True
    return bool(poll.poll(0))


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
