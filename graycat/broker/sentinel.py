"""Finds the broker through its sentinels: which of several servers is the master now.

redis-py's own client is used, with what it lacks (redis-py 8.1): its search keeps the sentinels in a list that callers
change at the same time, by which sentinels get lost; it has no deadline but those of connections, each tried eleven
times; every new connection asks for itself; and it believes one sentinel for ever, though the server that this one
names cannot be reached.
"""

from __future__ import annotations

import threading
import time
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from graycat.broker.introduction import NO_INTRODUCTION
from graycat.errors import SettingsError
from graycat.settings import variable
from graycat.settings.sentinel import SentinelAddress

#: Seconds that a connection to a sentinel may take, and that its reply may take.
TIMEOUT_S = 0.5
#: After so many seconds no further sentinel is asked.
SEARCH_S = 1.0

Address = tuple[str, int]


class Sentinels(Sentinel):
    """The sentinels of a broker. Any thread or greenlet may ask them; one at a time does, and tells the others."""

    def __init__(self, address: SentinelAddress) -> None:
        options: dict[str, Any] = {
            "socket_timeout": TIMEOUT_S,
            "socket_connect_timeout": TIMEOUT_S,
            "retry": Retry(NoBackoff(), 0),
            **NO_INTRODUCTION,
        }
        if address.sentinel_password:
            options["password"] = address.sentinel_password
            options["username"] = address.sentinel_username or None
        if address.tls:
            options |= {"ssl": True, **address.tls_options}
        super().__init__(address.sentinels, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
        self._address = address
        self._lock = threading.Lock()
        #: Which sentinel is asked first, and which one if the server that was found last cannot be reached.
        self._first, self._another = 0, 1
        #: When the last search ended, and what it found.
        self._searched_at = 0.0
        self._found: Address | MasterNotFoundError = MasterNotFoundError("not searched yet")

    def discover_master(self, service_name: str) -> Address:
        """Return the host and port of the master now. Raises MasterNotFoundError, a ``redis.ConnectionError``."""
        asked_at = time.monotonic()
        with self._lock:
            # Who waited here while another one searched takes what that one has found.
            if self._searched_at <= asked_at:
                self._found = self._search(service_name)
                self._searched_at = time.monotonic()
            found = self._found
        if isinstance(found, MasterNotFoundError):
            raise found
        return found

    def ask_another(self) -> None:
        """Begin the next search with another sentinel: the server that this one has named cannot be reached.

        Many connections may fail for the same answer. As many steps as sentinels would lead to this one again.
        """
        self._first = self._another

    def _search(self, service_name: str) -> Address | MasterNotFoundError:
        give_up_at = time.monotonic() + SEARCH_S
        first = self._first
        for number in range(first, first + len(self.sentinels)):
            if time.monotonic() > give_up_at:
                break
            try:
                masters = _masters(self.sentinels[number % len(self.sentinels)])
            except redis.RedisError:
                continue
            state = masters.get(service_name)
            if state and self.check_master_state(state, service_name):  # type: ignore[no-untyped-call]
                self._first, self._another = number, number + 1
                return state["ip"], state["port"]
        return MasterNotFoundError("no sentinel names a master that is up")

    def check(self) -> None:
        """Raise SettingsError if the settings are wrong: no sentinel is there to be asked, or none knows the master.

        Sentinels that are away are no error: they may come back.
        """
        problems = []
        for (host, port), sentinel in zip(self._address.sentinels, self.sentinels, strict=True):
            try:
                problem = self._problem(f"{host}:{port}", _masters(sentinel))
            except redis.AuthenticationError:
                problem = f"{host}:{port} refuses the login: {variable('sentinel_password')} is the sentinels' password"
            except redis.ResponseError as error:
                problem = f"{host}:{port} answers as no sentinel does ({str(error)[:100]})"
            except redis.RedisError:
                continue
            if not problem:
                return
            problems.append(problem)
        if problems:
            raise SettingsError(f"REDIS_URL: the sentinel {problems[0]}")

    def _problem(self, place: str, masters: dict[str, Any]) -> str:
        """Return what is wrong with the masters that a sentinel knows; '' if ours is among them."""
        if self._address.master in masters:
            return ""
        known = ", ".join(sorted(masters)) or "none at all"
        return f"{place} knows no master {self._address.master!r}, but {known}"


def _masters(sentinel: redis.Redis) -> dict[str, Any]:
    """Return the masters that a sentinel knows, by their names. Raises what redis-py raises."""
    return cast(dict[str, Any], sentinel.sentinel_masters())


class _FromSentinels:
    """What connections to the master have in common. Their pool asks the sentinels for the address of each new one."""

    connection_pool: Any
    _sock: Any

    def connect_to(self, address: Address) -> None:
        """Connect to the server that the sentinels have named. Raises what redis-py raises."""
        try:
            super().connect_to(address)  # type: ignore[misc]
        except (redis.ConnectionError, redis.TimeoutError):
            self.connection_pool.sentinel_manager.ask_another()
            raise

    def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        """Connect to the server whose address is known, as redis-py does. Raises what redis-py raises.

        redis-py (8.1, issue 3874) calls this by itself, with ``retry_socket_connect``, when it sends a command again
        whose connection was lost: to the server that was the master before, for as long as the command is tried. Here
        the sentinels are asked each time.
        """
        if retry_socket_connect and self._sock is None:
            self.connect_to(self.connection_pool.get_master_address())
        else:
            super().connect_check_health(check_health, retry_socket_connect)  # type: ignore[misc]


class MasterConnection(_FromSentinels, SentinelManagedConnection):
    """A connection to the master."""


class MasterSSLConnection(_FromSentinels, SentinelManagedSSLConnection):
    """The same over TLS."""


def connection_class(address: SentinelAddress) -> type[SentinelManagedConnection]:
    """Return the class of the connections to a broker."""
    if address.tls:
        return MasterSSLConnection
    return MasterConnection


def pool_options(address: SentinelAddress) -> dict[str, Any]:
    """Return the options of a pool of connections to a broker, for a subclass of SentinelConnectionPool."""
    return {
        "service_name": address.master,
        "sentinel_manager": Sentinels(address),
        "connection_class": connection_class(address),
        "db": address.db,
        "username": address.username or None,
        "password": address.password or None,
        **address.tls_options,
    }
