"""Brokers outside of ``graycat up``: one that sentinels watch, and one behind a network that can be made bad."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Protocol

import redis

from tests.support.boxes import OpenValkey
from tests.support.proxies import Proxy
from tests.support.sentinels import Trio

#: The setting of a fault that asks for one, and its values.
SETTING, SENTINELS, PROXY = "CHAOS_BROKER", "sentinels", "proxy"


class OutsideBroker(Protocol):
    """A broker that the system's processes reach by ``env``, which is known before it is started."""

    @property
    def env(self) -> dict[str, str]: ...

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def client(self) -> Any: ...


class WatchedBroker:
    """Two servers, and three sentinels that choose the master."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="chaos-broker-"))
        self.servers = Trio(self._folder, password=os.urandom(12).hex(), sentinel_password=os.urandom(12).hex())
        self.env = self.servers.env

    def start(self) -> None:
        """Start it; returns when the sentinels know all servers."""
        self.servers.start()

    def stop(self) -> None:
        """End it."""
        self.servers.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def client(self) -> Any:
        """Return a client of the server that is the master now."""
        return self.servers.client(self.servers.master())


class ProxiedBroker:
    """One server. ``home`` and ``box`` are two ways to it, each of which can be made bad."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="chaos-broker-"))
        self.server = OpenValkey(self.folder)
        self.home, self.box = Proxy(self.server.port), Proxy(self.server.port)
        for proxy in (self.home, self.box):
            proxy.start()
        self.env = {"REDIS_URL": self.url_by(self.home)}
        self._client: Any = None

    def url_by(self, proxy: Proxy) -> str:
        """Return its address by one of the ways."""
        return f"redis://127.0.0.1:{proxy.port}/0"

    def start(self) -> None:
        """Start it."""
        self.server.start()

    def stop(self) -> None:
        """End it."""
        for proxy in (self.home, self.box):
            proxy.stop()
        self.server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def client(self) -> Any:
        """Return a client that goes straight to the server."""
        if self._client is None:
            self._client = redis.Redis(port=self.server.port, decode_responses=True, socket_timeout=5)
        return self._client


def open_broker(kind: str) -> OutsideBroker | None:
    """Return the broker that a fault asks for, not started yet; None if ``graycat up`` runs its own."""
    if kind == SENTINELS:
        return WatchedBroker()
    if kind == PROXY:
        return ProxiedBroker()
    return None
