"""Raw connections to the broker, for the commands of the hot path.

redis-py opens the connection (address, TLS, login). From then on hiredis alone packs commands and parses replies.
A command through redis-py's client costs several times as much as the broker takes to run it, and every token needs
one (docs/decisions/0006).
"""

from __future__ import annotations

import select
import ssl
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from graycat.broker.client import unavailable_reply
from graycat.broker.protocol import Broker

Argument = str | int | float | bytes
#: One command: its name and arguments.
Command = tuple[Argument, ...]
#: The most bytes that one call reads from a socket.
RECEIVE_BYTES = 65536
#: If a connection's send buffer is full, the broker gets this long to read from it.
SEND_TIMEOUT_S = 2.0
#: What a non-blocking socket raises if it would block. TLS has errors of its own for that.
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
#: hiredis annotates this function for commands of one word.
_PACK: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment]


class RawConnection:
    """One connection. Only one thread (or greenlet) at a time may use it.

    ``send`` and ``read`` wait. A caller that sets the socket to non-blocking uses the other methods.
    """

    def __init__(self, client: Broker) -> None:
        pool = client.connection_pool
        # Not make_connection(): the pool would count this connection as its own and never get it back.
        self._connection: Any = pool.connection_class(**pool.connection_kwargs)
        # The user of the connection retries. A connection that retries by itself would multiply that.
        self._connection.retry = Retry(NoBackoff(), 0)
        # The first command shows whether a new connection works.
        self._connection.health_check_interval = 0
        self._connection.connect()
        # redis-py has no public way to the socket. kombu takes it like this, too.
        self.socket: Any = self._connection._sock
        self._reader = hiredis.Reader()

    def send(self, commands: Sequence[Command]) -> None:
        """Send commands with one system call, if the socket takes them whole."""
        self.socket.sendall(b"".join(map(_PACK, commands)))

    def read(self, count: int) -> list[Any]:
        """Wait for at least ``count`` replies and return all that have come; error replies are hiredis.ReplyError.

        Raises redis.ConnectionError.
        """
        replies: list[Any] = []
        while True:
            self._parse_replies(replies)
            if len(replies) >= count:
                return replies
            self._receive()

    def send_nowait(self, commands: Sequence[Command]) -> None:
        """Send commands over a non-blocking socket; wait only if its send buffer is full. Raises OSError."""
        data = b"".join(map(_PACK, commands))
        try:
            sent = self.socket.send(data)
        except _WOULD_BLOCK:
            sent = 0
        if sent < len(data):
            self.socket.settimeout(SEND_TIMEOUT_S)
            self.socket.sendall(data[sent:])
            self.socket.setblocking(False)

    def read_nowait(self) -> list[Any]:
        """Return the replies that a non-blocking socket has received. Raises OSError, redis.ConnectionError."""
        replies: list[Any] = []
        try:
            self._receive()
        except _WOULD_BLOCK:
            return replies
        self._parse_replies(replies)
        return replies

    def read_some(self, timeout_s: float) -> list[Any]:
        """Return replies like ``read_nowait``; if there are none, wait for more bytes first, and maybe return none.

        Raises also TimeoutError, if no time is left.
        """
        replies = self.read_nowait()
        if not replies:
            if timeout_s <= 0:
                raise TimeoutError("the broker does not answer")
            # Not select(), which takes no descriptor above 1,023.
            poller = select.poll()
            poller.register(self.socket, select.POLLIN)
            poller.poll(timeout_s * 1000)
        return replies

    def _receive(self) -> None:
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            raise redis.ConnectionError("the broker closed the connection")
        self._reader.feed(data)

    def _parse_replies(self, replies: list[Any]) -> None:
        while True:
            reply = self._reader.gets()
            if reply is False:
                return
            replies.append(reply)

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()


class RawConnectionPool:
    """Idle raw connections. It retries like the client that it was made for; any thread may use it."""

    def __init__(self, client: Broker) -> None:
        self._client = client
        self._retry = copy(client.get_retry())
        # A server that takes no writes any more has a successor, to which a new connection may lead.
        self._retry.update_supported_errors([redis.ReadOnlyError])
        self._idle: list[RawConnection] = []

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands and return a reply for each; a reply may be a hiredis.ReplyError.

        Commands whose replies were lost are sent again. Raises what redis-py raises while the broker is down.
        """

        def attempt() -> list[Any]:
            return self._run_checked(commands)

        def before_retry(_: Exception) -> None:
            self._close_idle()

        replies: list[Any] = self._retry.call_with_retry(attempt, before_retry)
        return replies

    def _run_checked(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands once. Raises redis-py's error if the broker replies that it cannot be used now."""
        replies = self._run_once(commands)
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                kind = unavailable_reply(str(reply))
                if kind is not None:
                    # It may have become the replica of another server, to which new connections lead.
                    self._close_idle()
                    raise kind(str(reply))
        return replies

    def _run_once(self, commands: Sequence[Command]) -> list[Any]:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = RawConnection(self._client)
        try:
            connection.send(commands)
            replies = connection.read(len(commands))
        except TimeoutError as error:
            connection.close()
            raise redis.TimeoutError("the broker does not answer") from error
        except OSError as error:
            connection.close()
            raise redis.ConnectionError(str(error)) from error
        except BaseException:
            # Half a reply may be under way. The next user of the connection would take it for its own.
            connection.close()
            raise
        self._idle.append(connection)
        return replies

    def _close_idle(self) -> None:
        """Close the idle connections: if one is broken, the broker was away, and the others are as old."""
        while self._idle:
            self._idle.pop().close()
