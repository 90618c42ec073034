"""A client of the web application behind a real socket, whose pauses take no time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from graycat.client import Client
from tests.support.helpers import SECRET
from tests.support.live import LiveServer


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the pauses that clients made, in seconds; they were none."""
    made: list[float] = []
    monkeypatch.setattr("graycat.client.calls.sleep", made.append)
    monkeypatch.setattr("graycat.client.feed.sleep", made.append)
    return made


@pytest.fixture
def there(live: LiveServer) -> Iterator[Client]:
    """Yield a client of the live server."""
    with Client(live.url, SECRET, patience_s=5) as client:
        yield client
