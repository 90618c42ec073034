"""kombu's channels for a broker that sentinels watch. Failovers: tests/integration/test_sentinels.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection
from redis.sentinel import SentinelConnectionPool

import celeryconfig
from graycat.broker import transport
from graycat.broker.client import MasterPool
from graycat.queue.received import purify
from graycat.settings import Settings
from tests.support.sentinels import trio


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    transport.install(purify)
    with trio(tmp_path, servers=1, sentinels=1, password="of-the-broker") as made:
        options = celeryconfig.from_settings(Settings(redis_url=made.url.replace("/0", "/3")))
        with Connection(options["broker_url"], transport_options=options["broker_transport_options"]) as opened:
            yield opened


def test_a_message_goes_through_the_master_s_database(connection: Connection) -> None:
    with connection.SimpleQueue("things") as queue:
        queue.put({"a": 1})
        assert queue.get(timeout=10).payload == {"a": 1}
    channel: Any = connection.default_channel
    assert isinstance(channel.pool, MasterPool)
    assert isinstance(channel.async_pool, SentinelConnectionPool)
    for pool in (channel.pool, channel.async_pool):
        assert pool.connection_kwargs["db"] == 3
    # Else workers of two databases would hear each other's commands.
    assert channel.keyprefix_fanout == "/3."
