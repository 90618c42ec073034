"""The broker's client: how graycat connects to Valkey or Redis, and what it raises while the broker is away."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import ClusterDownError, MasterDownError, TryAgainError
from redis.retry import Retry

from graycat.broker.protocol import Broker
from graycat.errors import BrokerUnavailable, SettingsError
from graycat.settings import Settings, variable


def connect(settings: Settings, *, patient: bool = False, timeout_s: float = 2.0) -> Broker:
    """Return a client of the broker; replies are bytes.

    ``patient``: retry a command for about ten seconds. Workers do, since they hold the work of minutes. A web process
    retries once, and then asks its own client to come back. ``timeout_s``: how long one attempt may take.
    """
    retry = Retry(NoBackoff(), 1)
    if patient:
        retry = Retry(ExponentialBackoff(cap=1.0, base=0.05), 14)
    pool = UncheckedConnectionPool.from_url(
        settings.broker_url,
        retry=retry,
        socket_connect_timeout=1.0,
        socket_timeout=timeout_s,
        # One ping finds a dead connection before a request does.
        health_check_interval=30,
        max_connections=10_000,
    )
    # redis-py's annotations do not know that this client decodes nothing.
    return cast(Broker, redis.Redis.from_pool(pool))


def check(settings: Settings) -> None:
    """Raise SettingsError if the settings of a broker elsewhere are wrong: it refuses the login or is not trusted.

    A broker that is away is no error: it may come back.
    """
    if settings.embedded_broker:
        return
    client = connect(settings)
    try:
        client.ping()
    except redis.AuthenticationError:
        raise SettingsError("the broker does not take the user and password in REDIS_URL or REDIS_PASS") from None
    except redis.ConnectionError as error:
        reason = error.__context__
        if isinstance(reason, ssl.SSLCertVerificationError):
            problem = f"the broker's certificate is not trusted: {reason.verify_message}"
            raise SettingsError(f"{problem}; {variable('redis_ca_file')} names the CA that signed it") from None
    except redis.RedisError:
        pass
    finally:
        client.close()


class UncheckedConnectionPool(redis.ConnectionPool):
    """A connection pool that does not check its connections.

    redis-py polls a connection before each command, which doubles a command's cost under gevent. Here a dead connection
    shows when the command is sent, and the client's retry policy sends it again over a new one.
    """

    def get_connection(self, command_name: str | None = None, *keys: Any, **options: Any) -> Any:
        """Return a connected connection."""
        self._checkpid()
        connection: Any
        with self._lock:
            if self._available_connections:
                connection = self._available_connections.pop()
            else:
                connection = self.make_connection()
            self._in_use_connections.add(connection)
        try:
            connection.connect()
        except BaseException:
            self.release(connection)
            raise
        return connection


def now_ms(client: Broker) -> int:
    """Return the broker's time in milliseconds since 1970: the one clock for all machines. Raises BrokerUnavailable."""
    with broker_errors():
        seconds, micros = client.time()
    return int(seconds * 1000 + micros // 1000)


#: The first words of replies that say that the broker cannot be used now, and redis-py's errors for them. Those that
#: are a ConnectionError are tried again by a patient client.
UNAVAILABLE_REPLIES: Mapping[str, type[redis.RedisError]] = {
    # It reads its data.
    "LOADING": redis.BusyLoadingError,
    # It runs a script that takes too long.
    "BUSY": redis.BusyLoadingError,
    # Its memory is full.
    "OOM": redis.OutOfMemoryError,
    # It is a replica, or its disk is full.
    "READONLY": redis.ReadOnlyError,
    "MISCONF": redis.ReadOnlyError,
    # A replica without its primary, a primary without its replicas, a cluster that changes.
    "MASTERDOWN": redis.ConnectionError,
    "NOREPLICAS": redis.ConnectionError,
    "CLUSTERDOWN": redis.ConnectionError,
    "TRYAGAIN": redis.ConnectionError,
}

#: What redis-py raises for them, and while the broker is away. It has no classes for some of the replies.
_UNAVAILABLE_ERRORS = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.OutOfMemoryError,
    redis.ReadOnlyError,
    ClusterDownError,
    MasterDownError,
    TryAgainError,
)


def unavailable_reply(message: str) -> type[redis.RedisError] | None:
    """Return redis-py's error for the text of an error reply that says that the broker cannot be used now."""
    # redis-py puts the command before the reply if that was one of a pipeline. The command may quote anything.
    reply = message.rpartition("of pipeline caused error: ")[2]
    return UNAVAILABLE_REPLIES.get(reply.partition(" ")[0])


def is_unusable_key(reply: object) -> bool:
    """Return whether a reply says that a key is not of the type that graycat writes.

    Raises the reply if it is another error.
    """
    if not isinstance(reply, Exception):
        return False
    # redis-py takes the first word off the messages of those that it has classes for.
    if isinstance(reply, _UNAVAILABLE_ERRORS):
        raise reply
    if isinstance(reply, redis.ResponseError) and unavailable_reply(str(reply)) is None:
        return True
    raise reply


@contextmanager
def broker_errors() -> Iterator[None]:
    """Raise BrokerUnavailable for what redis-py raises when the broker is down, starting, stuck, full or read-only."""
    try:
        yield
    except _UNAVAILABLE_ERRORS as error:
        raise BrokerUnavailable from error
    except redis.ResponseError as error:
        if unavailable_reply(str(error)) is None:
            raise
        raise BrokerUnavailable from error
