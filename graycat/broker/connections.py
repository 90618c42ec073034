"""Lanes: bare connections to the broker for commands of the hot path.

redis-py makes the connection (address, TLS, login); from then on commands are packed and replies parsed by hiredis
alone. A command through redis-py's client costs several times as much as the broker takes to run it, and each token
passes here (docs/decisions/0006).
"""

from __future__ import annotations

import select
import ssl
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from graycat.broker.protocol import Broker

Argument = str | int | float | bytes
#: One command: its name and arguments.
Command = tuple[Argument, ...]
READ_BYTES = 65536
#: Seconds that a full connection gets to take the rest of what is sent.
PATIENCE_S = 2.0
#: What a socket that does not block raises where it would; over TLS it has errors of its own for that.
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
#: hiredis annotates it for commands of one word.
_PACK: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment]


class RawConnection:
    """One connection; used by one thread (or greenlet) at a time."""

    def __init__(self, client: Broker) -> None:
        pool = client.connection_pool
        # Not make_connection(): the pool would count a lane as one of its own for ever, and one day make no more.
        self._connection = pool.connection_class(**pool.connection_kwargs)
        # Who uses the lane is patient or not; a connection that tried again by itself would multiply that.
        self._connection.retry = Retry(NoBackoff(), 0)
        # A lane is new when it is made, and shows by its first command whether it is good.
        self._connection.health_check_interval = 0
        self._connection.connect()
        # redis-py has no public way to the socket; kombu takes it so, too.
        self.socket: Any = self._connection._sock
        self._reader = hiredis.Reader()

    def send(self, commands: Sequence[Command]) -> None:
        """Send commands in one piece."""
        self.socket.sendall(b"".join(map(_PACK, commands)))

    def read(self, count: int) -> list[Any]:
        """Return the next replies, at least ``count``; errors are among them. Raises redis.ConnectionError."""
        replies: list[Any] = []
        while True:
            while (reply := self._reader.gets()) is not False:
                replies.append(reply)
            if len(replies) >= count:
                return replies
            data = self.socket.recv(READ_BYTES)
            if not data:
                raise redis.ConnectionError("the broker closed the connection")
            self._reader.feed(data)

    def post(self, commands: Sequence[Command]) -> None:
        """Send commands on a lane that does not block; waits only where the connection is full. Raises OSError."""
        data = b"".join(map(_PACK, commands))
        try:
            sent = self.socket.send(data)
        except _NOT_NOW:
            sent = 0
        if sent < len(data):
            self.socket.settimeout(PATIENCE_S)
            self.socket.sendall(data[sent:])
            self.socket.setblocking(False)

    def arrived(self) -> list[Any]:
        """Return the replies that are here, on a lane that does not block. Raises OSError, redis.ConnectionError."""
        replies: list[Any] = []
        try:
            data = self.socket.recv(READ_BYTES)
        except _NOT_NOW:
            return replies
        if not data:
            raise redis.ConnectionError("the broker closed the connection")
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            replies.append(reply)
        return replies

    def awaited(self, timeout_s: float) -> list[Any]:
        """Return replies as ``arrived``, waiting for the first one. Raises also TimeoutError."""
        if not (replies := self.arrived()):
            if timeout_s <= 0:
                raise TimeoutError("the broker does not answer")
            select.select([self.socket], (), (), timeout_s)
        return replies

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()


class RawConnectionPool:
    """Lanes at rest, and the client's patience when one breaks. Any thread may use it."""

    def __init__(self, client: Broker) -> None:
        self._client = client
        self._retry = client.get_retry()
        self._idle: list[RawConnection] = []

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands and return a reply for each; a reply may be a hiredis.ReplyError.

        A command whose reply was lost is sent again. Raises what redis-py raises while the broker is down.
        """
        replies: list[Any] = self._retry.call_with_retry(lambda: self._usable(commands), lambda _: self._drop_all())
        return replies

    def _usable(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands once; a broker that only says that it is not ready tries the client's patience, too."""
        replies = self._once(commands)
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                _raise_if_unusable(str(reply))
        return replies

    def _once(self, commands: Sequence[Command]) -> list[Any]:
        try:
            lane = self._idle.pop()
        except IndexError:
            lane = RawConnection(self._client)
        try:
            lane.send(commands)
            replies = lane.read(len(commands))
        except TimeoutError as error:
            lane.close()
            raise redis.TimeoutError("the broker does not answer") from error
        except OSError as error:
            lane.close()
            raise redis.ConnectionError(str(error)) from error
        except BaseException:
            # Half a reply may be on its way: whoever came next would read it as its own.
            lane.close()
            raise
        self._idle.append(lane)
        return replies

    def _drop_all(self) -> None:
        """Close the lanes at rest: where one is broken, the broker was away, and the others are as old."""
        while self._idle:
            self._idle.pop().close()


def _raise_if_unusable(message: str) -> None:
    """Raise redis-py's error for a reply that says that the broker cannot be used now."""
    for prefix, kind in _UNUSABLE.items():
        if message.startswith(prefix):
            raise kind(message)


_UNUSABLE = {
    "LOADING": redis.BusyLoadingError,
    "OOM": redis.OutOfMemoryError,
    "READONLY": redis.ReadOnlyError,
    "MASTERDOWN": redis.ConnectionError,
    "MISCONF": redis.ReadOnlyError,
}
