"""kombu's Redis transport, without two wastes: a new client object and a poll of its connection for each command.

kombu picks a transport by its URL's scheme, so ``install`` puts ours behind the schemes of Redis.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis

from graycat.broker.client import UncheckedConnectionPool


class Channel(redis.Channel):
    """A channel that keeps its client. Making one costs an eighth of all that a worker does for a short task."""

    #: A channel that closes must not put back what still runs here: leases bring back what is really lost.
    do_restore = False
    from_transport_options = (*redis.Channel.from_transport_options, "sweeps")
    #: Whether it deletes the bindings of those who are long gone: anybody's, which is not for everybody.
    sweeps = True
    _kept_client: Any = None

    def sweep_bindings(self, limit: int = 100) -> int:
        """Delete binding tables that nobody has refreshed in time; return how many were looked at."""
        return int(super().sweep_bindings(limit)) if self.sweeps else 0  # type: ignore[misc]

    def _get_pool(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._get_pool(asynchronous=True)  # type: ignore[misc]
        params = self._connparams()  # type: ignore[attr-defined]
        self.keyprefix_fanout = self.keyprefix_fanout.format(db=params["db"])
        return UncheckedConnectionPool(**params)

    def _create_client(self, asynchronous: bool = False) -> Any:
        """Return a client of the pool; safe in any thread, as each command takes a connection of its own."""
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[misc]
        # Also when the channel is closed: a task that outlives its connection is acknowledged by what is kept here. A
        # reconnect makes a new channel.
        if self._kept_client is None:
            self._kept_client = super()._create_client()  # type: ignore[misc]
        return self._kept_client


class Transport(redis.Transport):
    """The Redis transport with our channel."""

    Channel = Channel


def install() -> None:
    """Use this transport for ``redis://``, ``rediss://`` and Redis on a Unix socket."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:Transport"))
