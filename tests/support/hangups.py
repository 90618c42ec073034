"""What ``hangup.watched`` does under gevent, as gunicorn's workers run it; printed as JSON by a process of its own
(``python -m gevent.monkey --module``, which patches before anything is imported).
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event

from graycat.web.streaming.disconnect import watched


def noticed(act: Callable[[socket.socket], Any], wait_s: float = 1.0) -> bool:
    """Tell whether the callback runs when the client ``act``s while its request waits."""
    server, client = socket.socketpair()
    gone = Event()
    with server, client, watched({"gunicorn.socket": server}, gone.set):
        gevent.spawn(act, client)
        return gone.wait(wait_s) is True


def outside() -> bool:
    """Tell whether the callback runs where the client hangs up when the block is over."""
    server, client = socket.socketpair()
    gone = Event()
    with server, client:
        with watched({"gunicorn.socket": server}, gone.set):
            pass
        client.close()
        return gone.wait(0.1) is True


def without_a_socket() -> bool:
    """Tell whether the callback runs where there is nothing to watch."""
    gone = Event()
    with watched({}, gone.set):
        return gone.wait(0.05) is True


def closed_by_us() -> bool:
    """Tell whether the block may end after the server's own end was closed."""
    server, client = socket.socketpair()
    with client, watched({"gunicorn.socket": server}, lambda: None):
        client.close()
        gevent.sleep(0.01)
        server.close()
    return True


def reset(client: socket.socket) -> None:
    """Close as a client does that leaves bytes unread."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()


def main() -> None:
    seen = {
        "close": noticed(lambda client: client.close()),
        "half close": noticed(lambda client: client.shutdown(socket.SHUT_WR)),
        "reset": noticed(reset),
        "nothing": noticed(lambda client: None, 0.1),
        "more bytes": noticed(lambda client: client.sendall(b"POST /next"), 0.1),
        "after the block": outside(),
        "without a socket": without_a_socket(),
        "closed by us": closed_by_us(),
    }
    print(json.dumps(seen))  # noqa: T201 (its output is its result)


if __name__ == "__main__":
    main()
