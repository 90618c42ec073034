"""The broker's client in tests, which look at more than graycat does."""

from __future__ import annotations

from typing import Any, Protocol, cast

from graycat.broker.client import connect
from graycat.broker.protocol import Broker
from graycat.settings import Settings


class BrokerClient(Broker, Protocol):
    """A ``redis.Redis``: graycat's commands with their types, and every other command without."""

    def __getattr__(self, name: str) -> Any: ...


def connect_client(settings: Settings, *, patient: bool = False) -> BrokerClient:
    """Return a client that may send any command."""
    return cast(BrokerClient, connect(settings, patient=patient))
