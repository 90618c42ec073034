"""graycat's transport for kombu, for a broker that sentinels watch.

kombu has one of its own, but its channel takes no part of what ``transport`` changes.
"""

from __future__ import annotations

from typing import Any

from redis.sentinel import SentinelConnectionPool

from graycat.broker.client import MasterPool
from graycat.broker.sentinel import connection_class, pool_options
from graycat.broker.transport import Channel, Transport
from graycat.settings.sentinel import DEFAULT_PORT, SentinelAddress


class SentinelChannel(Channel):
    """A channel whose new connections go to the server that is the master then."""

    from_transport_options = (*Channel.from_transport_options, "sentinel")
    #: Set from the options of the transport (celeryconfig).
    sentinel: SentinelAddress

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        # kombu makes a subclass of it, which tells its event loop when a connection ends.
        self.connection_class = connection_class(self.sentinel)
        params = super()._connparams(asynchronous=asynchronous)
        for name in ("host", "port"):
            params.pop(name, None)
        return params

    def _get_pool(self, asynchronous: bool = False) -> Any:
        params = self._connparams(asynchronous=asynchronous)
        self.keyprefix_fanout = self.keyprefix_fanout.format(db=params["db"])
        if asynchronous:
            return SentinelConnectionPool(**(pool_options(self.sentinel) | params))
        return MasterPool.build(self.sentinel, params)


class SentinelTransport(Transport):
    """The transport with the channel above."""

    Channel = SentinelChannel
    default_port = DEFAULT_PORT
