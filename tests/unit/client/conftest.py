"""A client of the web application, over a real socket and without pauses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from graycat.client import Client
from tests.support.helpers import SECRET
from tests.support.live import LiveServer


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the pauses that clients would have made, in seconds."""
    recorded: list[float] = []
    monkeypatch.setattr("graycat.client.http.sleep", recorded.append)
    monkeypatch.setattr("graycat.client.events.sleep", recorded.append)
    return recorded


@pytest.fixture
def client(live: LiveServer) -> Iterator[Client]:
    """Yield a client of the live server."""
    with Client(live.url, SECRET, patience_s=5) as client:
        yield client
