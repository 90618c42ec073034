"""A client's connection: a gevent socket that knows how far its request has come, and since when."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
import termios
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gevent.socket import socket as GeventSocket  # noqa: N812 (gevent's own name for it elsewhere)
from gunicorn.http.errors import LimitRequestHeaders

from graycat.front.cors import OriginFinder
from graycat.front.places import BODY, HEAD, IDLE, RUN, STALLED
from graycat.front.turns import WaiterInTurn

if TYPE_CHECKING:
    from graycat.front.guard import Guard, Source

#: The bytes that a request's head may have, together with what comes in one piece with it.
MAX_HEAD_BYTES = 64 * 1024
#: Closing with this option drops what is unsent, and tells the client so.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
#: Values of ``cut`` with which reading ends although the answer may still be sent.
TOO_SLOW, TOO_MANY_BYTES = "slow body", "bytes of bodies"


class Connection(GeventSocket):
    """The socket of a client. It tells the guard what it waits for, and only when it has to wait."""

    __slots__ = (
        "body_bytes",
        "body_began_at",
        "cut",
        "guard",
        "head_bytes",
        "held_bytes",
        "is_counted",
        "origin",
        "put_back_bytes",
        "since",
        "source",
        "state",
        "unsent_bytes",
        "waiter",
    )

    # gevent's own, which its types leave out.
    _sock: socket.socket
    _read_event: object
    _write_event: object

    def __init__(self, guard: Guard, source: Source, family: int, kind: int, proto: int, fileno: int) -> None:
        super().__init__(family, kind, proto, fileno=fileno)
        self.guard = guard
        #: The connections of the same address.
        self.source = source
        self.state = HEAD
        #: When it entered its state, on the guard's clock.
        self.since = 0.0
        #: Why the guard has ended it, or ended the reading of its body; '' if it has not.
        self.cut = ""
        self.is_counted = False
        self.head_bytes = 0
        #: The bytes of the current request's body that have come, and when the first did (0: none yet).
        self.body_bytes = 0
        self.body_began_at = 0.0
        #: How many of them may be in memory; None: what comes is thrown away, the rest of a body that no view reads.
        self.held_bytes: int | None = 0
        #: What its greenlet waits with for the client, if it does.
        self.waiter: WaiterInTurn | None = None
        #: What was unsent when it began to wait for its client to read.
        self.unsent_bytes = 0
        #: Finds the page that the current request comes from; None if no page may call.
        self.origin = None
        if guard.cors:
            self.origin = OriginFinder()
        #: Bytes that were received and put back, to be received next.
        self.put_back_bytes = b""

    def cors_headers(self) -> list[tuple[str, str]]:
        """Return the headers of an answer that is no view's, for the page that the request comes from."""
        if self.origin is None:
            return []
        return self.guard.cors.unread_headers(self.origin.found)

    def put_back(self, data: bytes) -> None:
        """Let bytes that were received be received again."""
        self.put_back_bytes = data + self.put_back_bytes

    def recv(self, *args: Any) -> bytes:
        """Receive bytes of a request.

        Raises LimitRequestHeaders, and ConnectionResetError if the guard has cut it; ``cut`` then says why.
        """
        if len(args) > 1:
            # A look at the connection (MSG_PEEK), which takes nothing.
            found: bytes = super().recv(*args)
            return found
        while True:
            self._raise_if_cut()
            if self.put_back_bytes:
                return self._take_back(*args)
            data = self._receive_now(*args)
            if data is not None:
                self._received(data)
                self._raise_if_cut()
                return data
            self._wait_for_bytes()

    def _raise_if_cut(self) -> None:
        if self.cut:
            raise ConnectionResetError(errno.ECONNRESET, self.cut)

    def _receive_now(self, *args: Any) -> bytes | None:
        """Return what has come; None if there is nothing yet."""
        try:
            data: bytes = self._sock.recv(*args)
        except BlockingIOError:
            if self.timeout == 0.0:
                raise
            return None
        return data

    def _take_back(self, size: int = MAX_HEAD_BYTES) -> bytes:
        data = self.put_back_bytes[:size]
        self.put_back_bytes = self.put_back_bytes[size:]
        return data

    def _wait_for_bytes(self) -> None:
        if self.state != RUN:
            self._wait_in_turn(self._read_event)
            return
        self.guard.move(self, BODY)
        self._wait_in_turn(self._read_event)
        if self.state == BODY:
            self.guard.move(self, RUN)

    def _received(self, data: bytes) -> None:
        count = len(data)
        if self.state == RUN:
            self.guard.received_body(self, count)
            return
        if self.state == IDLE and count:
            self.guard.move(self, HEAD)
        self.head_bytes += count
        if self.origin is not None:
            self.origin.look(data)
        if self.state == HEAD and self.head_bytes > MAX_HEAD_BYTES:
            raise LimitRequestHeaders("the head is too long")

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of ``data``. Raises ConnectionError if the client is gone, or was cut because it does not read."""
        sent = self.send(data, flags)
        if sent == len(data):
            return
        rest = memoryview(data)[sent:]
        while rest:
            rest = rest[self.send(rest, flags) :]

    def send(self, data: Any, flags: int = 0, timeout: object = None) -> int:
        """Send the beginning of ``data``, as soon as the client takes some; return how many bytes that are."""
        while True:
            try:
                return int(self._sock.send(data, flags))
            except BlockingIOError:
                if self.timeout == 0.0:
                    raise
            self._wait_for_reader()

    def _wait_for_reader(self) -> None:
        before = self.state
        self.unsent_bytes = self.count_unsent()
        self.guard.move(self, STALLED)
        self._wait_in_turn(self._write_event)
        if self.state == STALLED:
            self.guard.move(self, before)

    def _wait_in_turn(self, watcher: object) -> None:
        self.waiter = WaiterInTurn(watcher, self.guard.woken, self.source.name)
        try:
            self.waiter.wait()
        finally:
            self.waiter = None

    def count_unsent(self) -> int:
        """Return how many bytes the client has not received; 0 if it is gone."""
        return self._ask(termios.TIOCOUTQ)

    def has_unread(self) -> bool:
        """Return whether there are bytes of the client that nobody has read yet."""
        return self._ask(termios.FIONREAD) > 0

    def _ask(self, what: int) -> int:
        with suppress(OSError, ValueError):
            (count,) = struct.unpack("i", fcntl.ioctl(self.fileno(), what, b"\0" * 4))
            return int(count)
        return 0

    def stop_reading(self) -> None:
        """Wake up who reads; the answer may still be sent."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RD)

    def break_off(self) -> None:
        """Wake up who reads or writes, without a turn, and drop what is unsent once the socket is closed."""
        if self.waiter is not None:
            self.waiter.hurry()
        # Not gevent's own shutdown, which raises in the waiting greenlet instead.
        with suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self._sock.shutdown(socket.SHUT_RDWR)

    def send_now(self, data: bytes) -> None:
        """Send a short answer as far as the client takes it at once."""
        with suppress(OSError):
            self._sock.send(data)
