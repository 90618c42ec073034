"""The broker's client in tests, which look at more than graycat does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol, cast

from graycat.broker.client import connect
from graycat.broker.protocol import Broker
from graycat.cli.broker import build_server_command
from graycat.settings import Settings

#: The server that tests start in place of the embedded one, if it is set (``make test-broker``).
BROKER = os.environ.get("TEST_BROKER", "")


def server_command(folder: Path, socket: Path) -> list[str]:
    """Return the command that runs the broker of a test."""
    command = build_server_command(folder, socket)
    return [BROKER or command[0], *command[1:]]


class BrokerClient(Broker, Protocol):
    """A ``redis.Redis``: graycat's commands with their types, and every other command without."""

    def __getattr__(self, name: str) -> Any: ...


def connect_client(settings: Settings, *, patient: bool = False) -> BrokerClient:
    """Return a client that may send any command."""
    return cast(BrokerClient, connect(settings, patient=patient))
