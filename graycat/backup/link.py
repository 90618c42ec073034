"""One connection to the broker for a backup or a restore: it sends nothing twice, and never follows a failover.

What was read over one connection is of one server at one moment. What was written over it twice would be there twice.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from graycat.backup.errors import BackupError
from graycat.broker.client import open_pool, unavailable_reply
from graycat.broker.connections import Command, RawConnection
from graycat.broker.introduction import NO_INTRODUCTION
from graycat.broker.protocol import Broker
from graycat.broker.release import join_version, oldest_release, parse_version, server_release
from graycat.settings import Settings

#: Seconds that a connection may take, and that any one reply may take: a value may have hundreds of megabytes.
CONNECT_TIMEOUT_S, REPLY_TIMEOUT_S = 5.0, 60.0


class Link:
    """One connection. Only one thread may use it."""

    def __init__(self, settings: Settings) -> None:
        """Connect. Raises BackupError."""
        options: dict[str, Any] = {
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "socket_timeout": REPLY_TIMEOUT_S,
            "protocol": 2,
            **NO_INTRODUCTION,
        }
        client = cast(Broker, redis.Redis.from_pool(open_pool(settings, options)))
        with _backup_errors("the broker cannot be reached"):
            self._connection = RawConnection(client)
            # One that answers at all does so soon; a large value takes longer.
            self._connection.socket.settimeout(CONNECT_TIMEOUT_S)
            self._connection.send([("PING",)])
            self._connection.read(1)
            self._connection.socket.settimeout(REPLY_TIMEOUT_S)
        self._pushed: list[Any] = []

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands in one round trip; return their replies, a ``hiredis.ReplyError`` for each that was refused.

        Raises BackupError if the broker cannot be used, or its connection is lost.
        """
        if not commands:
            return []
        with _backup_errors("the connection to the broker was lost"):
            self._connection.send(commands)
            replies = self._connection.read(len(commands))
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError) and unavailable_reply(str(reply)) is not None:
                raise BackupError(f"the broker refuses: {reply}")
        return replies

    def ask(self, *command: str | int | bytes) -> Any:
        """Run one command and return its reply. Raises BackupError, also if it is refused."""
        (reply,) = self.run([command])
        if isinstance(reply, hiredis.ReplyError):
            raise BackupError(f"the broker refuses {command[0]!s}: {reply}")
        return reply

    def subscribe(self, channel: str) -> None:
        """Have what is published on a channel pushed to this connection; ``pushed`` returns it. Raises BackupError."""
        self.ask("SUBSCRIBE", channel)

    def pushed(self) -> list[Any]:
        """Return what was published up to now, or a little later. Raises BackupError."""
        mark = os.urandom(8).hex().encode()
        is_read = False
        with _backup_errors("the connection to the broker was lost"):
            self._connection.send([("PING", mark)])
            # What comes with the answer, behind it, is no less than what comes before it.
            while not is_read:
                for reply in self._connection.read(1):
                    if reply == [b"pong", mark]:
                        is_read = True
                    else:
                        self._pushed.append(reply[2])
        messages, self._pushed = self._pushed, []
        return messages

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def check(self) -> dict[str, str]:
        """Return the broker's name and version. Raises BackupError if it is too old, a replica, or of a cluster."""
        info = _parse_info(self.ask("INFO", "server")) | _parse_info(self.ask("INFO", "replication"))
        name, version = server_release(info)
        if parse_version(version) < oldest_release(name):
            oldest = join_version(oldest_release(name))
            raise BackupError(f"the broker is {name} {version}; backups need {oldest} or newer")
        if "cluster" in (info.get("redis_mode"), info.get("server_mode")):
            raise BackupError("the broker is a node of a cluster; graycat needs one server")
        if info.get("role") == "slave":
            raise BackupError("the broker is a replica: name its primary in REDIS_URL")
        return {"server": name, "version": version}

    def memory(self) -> tuple[int, int]:
        """Return how many bytes the broker's memory has in use, and how many it may; 0: any number."""
        info = _parse_info(self.ask("INFO", "memory"))
        return int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))

    def scan(self, pattern: str) -> Iterator[list[bytes]]:
        """Yield the names of the keys, some at a time. One that is there all the while comes once at least."""
        cursor: bytes | int = 0
        while True:
            cursor, names = self.ask("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
            if names:
                yield names
            if int(cursor) == 0:
                return


def _parse_info(reply: bytes) -> dict[str, str]:
    found = {}
    for line in reply.decode(errors="replace").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            found[name] = value
    return found


@contextmanager
def _backup_errors(problem: str) -> Iterator[None]:
    """Raise BackupError, which begins with a problem, for what a connection raises."""
    try:
        yield
    except redis.AuthenticationError:
        raise BackupError("the broker does not take the user and password of REDIS_URL or REDIS_PASS") from None
    except (TimeoutError, redis.TimeoutError) as error:
        raise BackupError(f"{problem}: it does not answer") from error
    except (OSError, redis.RedisError) as error:
        raise BackupError(f"{problem}: {error}") from error
