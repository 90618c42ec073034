"""Accepts connections: each one that has a place gets a greenlet, all others are closed at once."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

from gevent.monkey import get_original
from gevent.pool import Pool
from gevent.server import StreamServer

from graycat.front.connection import Connection
from graycat.front.errors import NotAProxy, ServerBusy, TooManyConnections
from graycat.front.guard import ADDRESS_FULL, FULL, NOT_A_PROXY, Guard
from graycat.front.replies import error_reply

if TYPE_CHECKING:
    from collections.abc import Callable

#: What those are told that have no place.
REFUSALS = {ADDRESS_FULL: TooManyConnections, FULL: ServerBusy, NOT_A_PROXY: NotAProxy}
#: Connections that may be taken, or refused, before the event loop looks at its other sockets.
MAX_ACCEPTED = 64
MAX_REFUSED = 100
#: The process or the machine has no file descriptor left.
NO_FILES = (errno.EMFILE, errno.ENFILE)


class GuardedServer(StreamServer):
    """gevent's server, with a guard at its door. ``for_proxies``: it takes connections of trusted addresses alone."""

    def __init__(
        self, listener: Any, handle: Callable[..., None], pool: Pool, guard: Guard, *, for_proxies: bool = False
    ) -> None:
        super().__init__(listener, handle=handle, spawn=pool)
        self.max_accept = MAX_ACCEPTED
        self._guard = guard
        self._for_proxies = for_proxies
        headers = guard.cors.unread_headers()
        self._refusals = {reason: error_reply(error(), headers) for reason, error in REFUSALS.items()}

    def do_read(self) -> tuple[Connection, Any] | None:  # type: ignore[override]
        """Return the next connection that has a place, with its address; None if there is none for now."""
        listener: Any = self.socket
        for _ in range(MAX_REFUSED):
            try:
                fileno, address = listener._accept()
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno in NO_FILES and self._guard.free_file():
                    return None
                raise
            host = host_of(address)
            reason = NOT_A_PROXY
            if not self._for_proxies or self._guard.takes_proxy(host):
                reason = self._guard.admit(host)
            if not reason:
                return self._guard.enter(host, listener.family, listener.type, listener.proto, fileno), address
            refuse(fileno, self._refusals[reason])
        return None

    def do_close(self, sock: Connection, *args: Any) -> None:  # type: ignore[override]
        """Close a connection and stop counting it; gevent calls this at its end, however it ended."""
        self._guard.leave(sock)
        super().do_close(sock, *args)


def host_of(address: Any) -> str:
    """Return the host of a socket's address; '' for a Unix socket's."""
    if isinstance(address, tuple):
        return str(address[0])
    return ""


def refuse(fileno: int, reply: bytes) -> None:
    """Send a short answer as far as it goes at once, and close the connection."""
    connection: socket.socket = get_original("socket", "socket")(fileno=fileno)
    try:
        connection.setblocking(False)
        connection.send(reply, socket.MSG_NOSIGNAL)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        # The client is gone, or takes nothing: it needs no answer then.
        pass
    finally:
        connection.close()
