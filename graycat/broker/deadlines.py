"""Until when the broker may run a script: not for a caller that has given up meanwhile (lua/deadline.lua)."""

from __future__ import annotations

import time
from typing import Any

import hiredis

from graycat.broker.client import TIMEOUT_S, BoundedRetry
from graycat.broker.connections import RawConnectionPool
from graycat.broker.protocol import Broker

_LATE = "LATE "


class Deadlines:
    """Makes deadlines by the broker's clock, which it asks once, and again if a deadline was missed."""

    def __init__(self, client: Broker, connections: RawConnectionPool) -> None:
        self._connections = connections
        self._patience_ms = 1000 * _patience_s(client)
        #: What the broker's clock is ahead of this process's monotonic one (ms); None: not known yet.
        self._ahead_ms: float | None = None

    def next_ms(self) -> int:
        """Return the deadline of a command that is sent now. May raise what a command raises."""
        ahead_ms = self._ahead_ms
        if ahead_ms is None:
            ((seconds, microseconds),) = self._connections.run([("TIME",)])
            ahead_ms = self._learn(int(seconds) * 1000 + int(microseconds) / 1000)
        return int(_now_ms() + ahead_ms + self._patience_ms)

    def is_late(self, reply: Any) -> bool:
        """Return whether a script was not run because its deadline had passed; learn the broker's clock from that."""
        if not isinstance(reply, hiredis.ReplyError) or not str(reply).startswith(_LATE):
            return False
        self._learn(float(str(reply).removeprefix(_LATE)))
        return True

    def gives_up(self, began_ms: float) -> bool:
        """Return whether it is too late to send a command again; else the broker's clock was set meanwhile."""
        return _now_ms() - began_ms > self._patience_ms / 2

    def _learn(self, broker_ms: float) -> float:
        """Keep what the broker's clock is ahead, and return it."""
        ahead_ms = broker_ms - _now_ms()
        self._ahead_ms = ahead_ms
        return ahead_ms


def began_ms() -> float:
    """Return the time at which a call begins, for ``Deadlines.gives_up``."""
    return _now_ms()


def _now_ms() -> float:
    return time.monotonic() * 1000


def _patience_s(client: Broker) -> float:
    """Return how many seconds a client waits for a reply, its retries included."""
    options = client.connection_pool.connection_kwargs
    patience_s = float(options.get("socket_timeout") or TIMEOUT_S)
    retry = options.get("retry")
    if isinstance(retry, BoundedRetry):
        patience_s += retry.within_s
    return patience_s
