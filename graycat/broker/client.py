"""The broker's client: how graycat connects to Valkey or Redis, and what it raises while the broker is away."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import redis
from redis.backoff import AbstractBackoff, ExponentialBackoff, NoBackoff
from redis.exceptions import (
    AskError,
    AuthorizationError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    TryAgainError,
)
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from graycat.broker import sentinel
from graycat.broker.introduction import NO_INTRODUCTION
from graycat.broker.protocol import Broker
from graycat.errors import BrokerFull, BrokerUnavailable, SettingsError
from graycat.settings import Settings, variable
from graycat.settings.sentinel import SentinelAddress

T = TypeVar("T")

#: Seconds that a connection may take, and that a reply may take. A caller waits for both at most once, so that an HTTP
#: request gets its 503 within two seconds.
CONNECT_TIMEOUT_S = 0.7
TIMEOUT_S = 1.2
#: The same for workers, which wait for a slow broker rather than begin again.
PATIENT_CONNECT_TIMEOUT_S = 1.0
PATIENT_TIMEOUT_S = 2.0
#: For so long a failed command is sent again: at once over a new connection, or by a worker until the broker is back.
RETRY_S = 0.2
PATIENT_RETRY_S = 10.0


def connect(settings: Settings, *, patient: bool = False, timeout_s: float = TIMEOUT_S) -> Broker:
    """Return a client of the broker; replies are bytes.

    ``patient``: retry a command for about ten seconds. Workers do, since they hold the work of minutes. A web process
    retries once, if that costs its own client no time, and then asks it to come back. ``timeout_s``: how long one
    attempt may take, of a client that is not patient.
    """
    retry = BoundedRetry(NoBackoff(), 1, RETRY_S)
    connect_timeout_s = CONNECT_TIMEOUT_S
    if patient:
        retry = BoundedRetry(ExponentialBackoff(cap=1.0, base=0.05), 14, PATIENT_RETRY_S)
        connect_timeout_s, timeout_s = PATIENT_CONNECT_TIMEOUT_S, PATIENT_TIMEOUT_S
    options: dict[str, Any] = {
        "retry": retry,
        "socket_connect_timeout": connect_timeout_s,
        "socket_timeout": timeout_s,
        # One ping finds a dead connection before a request does.
        "health_check_interval": 30,
        "max_connections": 10_000,
        **NO_INTRODUCTION,
    }
    # redis-py's annotations do not know that this client decodes nothing.
    return cast(Broker, redis.Redis.from_pool(open_pool(settings, options)))


def open_pool(settings: Settings, options: dict[str, Any]) -> redis.ConnectionPool:
    """Return a pool of connections to the broker, not connected yet; ``options``: those of redis-py's connections."""
    if settings.sentinel is None:
        return UncheckedConnectionPool.from_url(settings.broker_url, **options)
    return MasterPool.build(settings.sentinel, options)


def check(settings: Settings) -> None:
    """Raise SettingsError if the settings of a broker elsewhere are wrong: it refuses the login or is not trusted.

    A broker that is away is no error: it may come back.
    """
    if settings.embedded_broker:
        return
    if settings.sentinel is not None:
        sentinel.Sentinels(settings.sentinel).check()
    client = connect(settings)
    try:
        client.ping()
        # Each user may send this command; INFO is not for those of boxes.
        if b"cluster" in _flatten(client.execute_command("HELLO")):
            raise SettingsError(
                "the broker in REDIS_URL or REDIS_HOST is a node of a cluster; graycat needs one server"
            )
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


def _flatten(reply: Any) -> list[Any]:
    """Return the names and values of a reply that is a map, or in RESP2 a list of both."""
    if isinstance(reply, dict):
        return [*reply.keys(), *reply.values()]
    return list(reply)


class BoundedRetry(Retry):
    """A retry policy that begins no new attempt after ``within_s`` seconds.

    redis-py counts attempts only, and counts them for the connection and for the command by turns: against a broker
    that takes connections and never answers, two attempts of two seconds take eight.
    """

    def __init__(self, backoff: AbstractBackoff, retries: int, within_s: float) -> None:
        super().__init__(backoff, retries)
        self.within_s = within_s

    def call_with_retry(self, do: Callable[[], T], fail: Callable[..., Any], *options: Any, **named: Any) -> T:
        """Call ``do`` until it succeeds, and ``fail`` after each failure. Raises the last failure.

        The options are those of redis-py, which has more of them in newer releases.
        """
        give_up_at = time.monotonic() + self.within_s

        def fail_in_time(error: Exception, *count: int) -> None:
            # This closes the connection: a late reply must not be read as that of the next command.
            fail(error, *count)
            if time.monotonic() > give_up_at:
                raise error

        result: T = super().call_with_retry(do, fail_in_time, *options, **named)
        return result


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
            super().release(connection)
            raise
        return connection

    def release(self, connection: Any) -> None:
        """Take a connection back. If it broke, the idle ones are closed: they may be as dead, and silent about it."""
        # Newer releases of redis-py have a public name for it.
        if connection._sock is None:
            self.disconnect(inuse_connections=False)
        super().release(connection)


class MasterPool(UncheckedConnectionPool, SentinelConnectionPool):
    """The same for a broker that sentinels watch: each new connection is to the server that is the master then."""

    @classmethod
    def build(cls, address: SentinelAddress, options: dict[str, Any]) -> MasterPool:
        """Return a pool; ``options``: more of redis-py's, which come first."""
        return cls(**(sentinel.pool_options(address) | options))


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
    # It is a node of a cluster, which graycat cannot use.
    "MOVED": ClusterDownError,
    "ASK": ClusterDownError,
    "CROSSSLOT": ClusterCrossSlotError,
    # Its users, their passwords or their permissions have changed.
    "NOAUTH": redis.AuthenticationError,
    "WRONGPASS": redis.AuthenticationError,
    "DENIED": AuthorizationError,
    "NOPERM": NoPermissionError,
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
    AskError,
    ClusterCrossSlotError,
    NoPermissionError,
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
    """Raise BrokerUnavailable for what redis-py raises while the broker cannot be used (see docs/broker.md).

    BrokerFull, if its memory is full.
    """
    try:
        yield
    except redis.OutOfMemoryError as error:
        raise BrokerFull from error
    except _UNAVAILABLE_ERRORS as error:
        raise BrokerUnavailable from error
    except redis.ResponseError as error:
        reason = unavailable_reply(str(error))
        if reason is None:
            raise
        if reason is redis.OutOfMemoryError:
            raise BrokerFull from error
        raise BrokerUnavailable from error


def unavailable_reason(error: BrokerUnavailable) -> str:
    """Return why the broker cannot be used: the first word of its reply, or the class of redis-py's error."""
    if error.__cause__ is None:
        return error.type
    word = str(error.__cause__).partition(" ")[0]
    if word in UNAVAILABLE_REPLIES:
        return word
    return type(error.__cause__).__name__
