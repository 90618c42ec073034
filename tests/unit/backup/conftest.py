from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.helpers import Valkey


@pytest.fixture(scope="session")
def _another(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = Valkey(tmp_path_factory.mktemp("another"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def another(_another: Valkey) -> Valkey:
    """Return the broker of another machine, empty."""
    _another.client.flushall()
    return _another
