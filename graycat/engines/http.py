"""HTTP to the engine beside the worker: kept connections, and calls that another thread can stop at any moment."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.response import BaseHTTPResponse

from graycat.errors import EngineLost

#: The largest piece read at once; tokens come in far smaller ones.
READ_BYTES = 65536

_active = threading.local()


class Call:
    """One call to an engine, from before its connection opens until its answer is read.

    ``stop`` may be called from any thread. It shuts the socket down, which ends a blocked read at once; closing the
    response would not: it waits for the next byte.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        #: Why the call was stopped; None while nobody has.
        self.stopped: str | None = None

    def stop(self, reason: str) -> None:
        """Stop the call; the first reason stays."""
        with self._lock:
            self.stopped = self.stopped or reason
            if self._socket is not None:
                _shut_down(self._socket)

    def attach(self, connected: socket.socket | None) -> None:
        """Take the socket that the call travels on; None when it is over."""
        with self._lock:
            self._socket = connected
            if connected is not None and self.stopped:
                _shut_down(connected)


class _Connection(HTTPConnection):
    """A connection that hands its socket to the call under way in this thread, before the request is sent."""

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is None:
            self.connect()
        call: Call | None = getattr(_active, "call", None)
        if call is not None:
            call.attach(self.sock)
        super().request(*args, **kwargs)


class EngineClient:
    """Requests to one engine, by any number of threads."""

    def __init__(self, url: str, connections: int = 64) -> None:
        address = urlsplit(url)
        self._pool = urllib3.HTTPConnectionPool(
            address.hostname or "127.0.0.1", address.port or 80, maxsize=connections, retries=False
        )
        self._pool.ConnectionCls = _Connection
        self._prefix = address.path.rstrip("/")

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        call: Call | None = None,
        timeout_s: float = 5.0,
    ) -> Iterator[BaseHTTPResponse]:
        """Yield the engine's response, its body unread.

        Raises EngineLost where the engine cannot be reached or breaks off, also while the caller reads.
        """
        _active.call = call
        try:
            response = self._send(method, path, body, timeout_s)
            try:
                yield response
            finally:
                # Read to its end, its connection is back in the pool; else this hangs up.
                response.close()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise EngineLost from error
        finally:
            _active.call = None
            if call is not None:
                call.attach(None)

    def _send(self, method: str, path: str, body: bytes | None, timeout_s: float) -> BaseHTTPResponse:
        headers: Mapping[str, str] = {"Content-Type": "application/json"} if body is not None else {}
        timeout = urllib3.Timeout(connect=2.0, read=timeout_s)
        options: dict[str, Any] = {"headers": headers, "timeout": timeout, "preload_content": False}
        try:
            return self._pool.urlopen(method, self._prefix + path, body, **options)
        except urllib3.exceptions.ProtocolError:
            call: Call | None = getattr(_active, "call", None)
            if call is not None and call.stopped:
                raise
            # A kept connection may be closed by the engine just as it is used again: once more, on what is left
            # of the pool. The engine has sent no byte of an answer.
            return self._pool.urlopen(method, self._prefix + path, body, **options)


def sse_events(response: BaseHTTPResponse) -> Iterator[list[bytes]]:
    """Yield a stream's server-sent events, those that arrive together together; comments (pings) are dropped.

    Each event keeps its bytes, the blank line behind it included.
    """
    buffer = b""
    while piece := response.read1(READ_BYTES):
        *whole, buffer = (buffer + piece).split(b"\n\n")
        if batch := [event + b"\n\n" for event in whole if event and not event.startswith(b":")]:
            yield batch


def _shut_down(connected: socket.socket) -> None:
    # Closed already: nothing is left to stop.
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)
