"""HTTP to the engine beside the worker: kept connections, and calls that another thread can stop at any moment.

On the standard library's http.client: a token passes here every few milliseconds, and urllib3 costs twice as much
(docs/decisions/0004).
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from http.client import HTTPConnection, HTTPException, HTTPResponse
from urllib.parse import urlsplit

from graycat.errors import EngineLost

#: The largest piece read at once; tokens come in far smaller ones.
READ_BYTES = 65536
CONNECT_TIMEOUT_S = 2.0
#: llama.cpp closes a kept connection after five idle seconds.
KEEP_IDLE_S = 4.0


class StopReason(StrEnum):
    """Why a call was stopped."""

    CANCELLED = "cancelled"
    TIMED_OUT = "timed out"
    #: Another attempt owns the task.
    STALE = "stale"
    SHUTDOWN = "shutdown"
    #: With what there is: an image engine answers the unfinished images.
    INTERRUPTED = "interrupted"


class Call:
    """One call to an engine, from before its connection opens until its answer is read.

    ``stop`` may be called from any thread. It shuts the socket down, which ends a blocked read at once; closing the
    response would not: it waits for the next byte.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        #: More headers of its request.
        self.headers: Mapping[str, str] = {}
        #: Why the call was stopped; None while nobody has.
        self.stopped: StopReason | None = None
        #: When that was, on the monotonic clock.
        self.stopped_at = 0.0

    def stop(self, reason: StopReason) -> None:
        """Stop the call; the first reason stays."""
        with self._lock:
            self._note(reason)
            if self._socket is not None:
                _shut_down(self._socket)

    def _note(self, reason: StopReason) -> None:
        if self.stopped is None:
            self.stopped, self.stopped_at = reason, time.monotonic()

    def skip(self) -> bool:
        """Have the engine leave out the rest of a batch; False where the call is none that can."""
        return False

    @property
    def connected(self) -> socket.socket:
        """Return the socket that the call travels on. Raises EngineLost when it is over."""
        if self._socket is None:
            raise EngineLost
        return self._socket

    def attach(self, connected: socket.socket | None) -> None:
        """Take the socket that the call travels on; None when it is over."""
        with self._lock:
            self._socket = connected
            if connected is not None and self.stopped:
                _shut_down(connected)


class EngineClient:
    """Requests to one engine, by any number of threads; each holds one connection while it reads."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        """``headers`` go with every request: what the engine wants of whoever calls it."""
        address = urlsplit(url)
        self._headers = dict(headers or {})
        self._host, self._port = address.hostname or "127.0.0.1", address.port or 80
        self._prefix = address.path.rstrip("/")
        #: Connections at rest, with the time since when; the last one is the freshest.
        self._idle: list[tuple[float, HTTPConnection]] = []

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        call: Call | None = None,
        timeout_s: float | None = 5.0,
        once: bool = False,
    ) -> Iterator[HTTPResponse]:
        """Yield the engine's response, its body unread.

        ``timeout_s`` bounds each wait for bytes; None leaves that to who may stop the call. ``once``: on a connection
        of its own, so that nothing is sent a second time. Raises EngineLost where the engine cannot be reached or
        breaks off, also while the caller reads.
        """
        call = call or Call()
        try:
            connection, response = self._send(method, self._prefix + path, body, call, timeout_s, once=once)
            try:
                yield response
            finally:
                call.attach(None)
                # Read to its end, the connection is kept; else this hangs up, and the engine stops.
                if response.isclosed() and connection.sock is not None:
                    self._idle.append((time.monotonic(), connection))
                else:
                    response.close()
                    connection.close()
        except (HTTPException, OSError) as error:
            raise EngineLost from error

    def _send(
        self, method: str, path: str, body: bytes | None, call: Call, timeout_s: float | None, *, once: bool
    ) -> tuple[HTTPConnection, HTTPResponse]:
        connection = None if once else self._kept()
        if connection is not None:
            # The engine may close a kept connection just as it is used again; then it has sent no byte of an answer.
            with contextlib.suppress(ConnectionError, HTTPException):
                return connection, self._exchange(connection, method, path, body, call, timeout_s)
            if call.stopped:
                raise ConnectionAbortedError
        connection = HTTPConnection(self._host, self._port, timeout=CONNECT_TIMEOUT_S)
        return connection, self._exchange(connection, method, path, body, call, timeout_s)

    def _exchange(
        self,
        connection: HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        call: Call,
        timeout_s: float | None,
    ) -> HTTPResponse:
        """Send a request on a connection and return its response, the headers read."""
        try:
            if connection.sock is None:
                connection.connect()
            connection.sock.settimeout(timeout_s)
            call.attach(connection.sock)
            headers = {**self._headers, **call.headers}
            if body is not None:
                headers["Content-Type"] = "application/json"
            connection.request(method, path, body, headers)
            return connection.getresponse()
        except (OSError, HTTPException):
            connection.close()
            raise

    def _kept(self) -> HTTPConnection | None:
        """Return a connection that is still good; the stale ones are closed."""
        while self._idle:
            try:
                since, connection = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if time.monotonic() - since < KEEP_IDLE_S:
                return connection
            connection.close()
        return None


def _shut_down(connected: socket.socket) -> None:
    # Closed already: nothing is left to stop.
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)
