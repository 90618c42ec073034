"""HTTP client of the engine beside the worker: keep-alive connections, and calls that any thread can stop at any time.

It is based on the standard library's http.client: a token passes here every few milliseconds, and urllib3 costs twice
as much (docs/decisions/0004).
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from http.client import HTTPConnection, HTTPException, HTTPResponse
from urllib.parse import urlsplit

from graycat.errors import EngineLost

#: The most bytes that are read at once; tokens come in far smaller pieces.
READ_BYTES = 65536
CONNECT_TIMEOUT_S = 2.0
#: An idle connection is not used again after this many seconds: llama.cpp closes it after five.
KEEP_IDLE_S = 4.0


class StopReason(StrEnum):
    """Why a call was stopped."""

    CANCELLED = "cancelled"
    TIMED_OUT = "timed out"
    #: Another attempt owns the task.
    STALE = "stale"
    SHUTDOWN = "shutdown"
    #: The caller wants the result so far: an image engine returns its unfinished images.
    INTERRUPTED = "interrupted"


class Call:
    """One call to an engine, from before its connection opens until its response is read.

    ``stop`` may be called from any thread. It shuts the socket down, which ends a blocked read at once. Closing the
    response would not: that waits for the next byte.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        #: Additional headers of its request.
        self.headers: Mapping[str, str] = {}
        #: Why the call was stopped; None if it was not.
        self.stopped: StopReason | None = None
        #: When it was stopped, on the monotonic clock.
        self.stopped_at = 0.0

    def stop(self, reason: StopReason) -> None:
        """Stop the call. If it is stopped twice, the first reason stays."""
        with self._lock:
            self._record_stop(reason)
            if self._sock is not None:
                _shut_down(self._sock)

    def _record_stop(self, reason: StopReason) -> None:
        if self.stopped is None:
            self.stopped = reason
            self.stopped_at = time.monotonic()

    def skip(self) -> bool:
        """Have the engine leave out the rest of a batch; return False if this call cannot do that."""
        return False

    @property
    def sock(self) -> socket.socket:
        """Return the socket that the call uses. Raises EngineLost if the call is over."""
        if self._sock is None:
            raise EngineLost
        return self._sock

    def attach(self, sock: socket.socket | None) -> None:
        """Set the socket that the call uses; None when the call is over."""
        with self._lock:
            self._sock = sock
            if sock is not None and self.stopped:
                _shut_down(sock)


class EngineClient:
    """Sends requests to one engine, from any number of threads; each uses one connection while it reads."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        """``headers`` are sent with every request, for example the engine's API key."""
        address = urlsplit(url)
        self._headers = dict(headers or {})
        self._host = address.hostname or "127.0.0.1"
        self._port = address.port or 80
        self._prefix = address.path.rstrip("/")
        #: Idle connections, each with the time since when it is idle; the most recent one is the last.
        self._idle: deque[tuple[float, HTTPConnection]] = deque()
        self._lock = threading.Lock()
        #: When the engine last began an answer, to any request (monotonic clock).
        self.heard_at = 0.0

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

        ``timeout_s`` limits each wait for bytes; with None, only ``call.stop`` ends a wait. ``once``: use a new
        connection, so that the request is never sent a second time. Raises EngineLost if the engine cannot be reached
        or breaks off, also while the caller reads.
        """
        call = call or Call()
        try:
            connection, response = self._send(method, self._prefix + path, body, call, timeout_s, once=once)
            try:
                yield response
            finally:
                call.attach(None)
                # After a complete read the connection is kept. Otherwise it is closed, which tells the engine to stop.
                if response.isclosed() and connection.sock is not None:
                    self._keep(connection)
                else:
                    response.close()
                    connection.close()
        except (HTTPException, OSError) as error:
            raise EngineLost from error

    def _send(
        self, method: str, path: str, body: bytes | None, call: Call, timeout_s: float | None, *, once: bool
    ) -> tuple[HTTPConnection, HTTPResponse]:
        """Send a request on an idle or a new connection; return the connection and the response."""
        idle = None
        if not once:
            idle = self._take_idle()
        if idle is not None:
            # The engine may close an idle connection just when it is used again. Then it has sent no byte of a
            # response, and the request can be sent again.
            with contextlib.suppress(ConnectionError, HTTPException):
                return idle, self._exchange(idle, method, path, body, call, timeout_s)
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
                headers.setdefault("Content-Type", "application/json")
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            self.heard_at = time.monotonic()
            return response
        except (OSError, HTTPException):
            connection.close()
            raise

    def _keep(self, connection: HTTPConnection) -> None:
        """Keep a connection for the next request; close those that are idle for too long.

        The most recent one is used first, so nothing else would ever close the others: each call with ``once`` leaves
        one more.
        """
        now = time.monotonic()
        old = []
        with self._lock:
            self._idle.append((now, connection))
            while now - self._idle[0][0] >= KEEP_IDLE_S:
                old.append(self._idle.popleft())
        for _, unused in old:
            unused.close()

    def _take_idle(self) -> HTTPConnection | None:
        """Return an idle connection that can be used again; close those that are too old."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                idle_since, connection = self._idle.pop()
            if time.monotonic() - idle_since < KEEP_IDLE_S:
                return connection
            connection.close()


def _shut_down(sock: socket.socket) -> None:
    # An OSError means that it is closed already, so there is nothing left to stop.
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
