"""A key that is read and then written, with nobody between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from graycat.broker.client import connect
from graycat.broker.protocol import WatchingPipeline
from graycat.broker.watching import change_watched
from tests.support.broker import BrokerClient
from tests.support.helpers import Stopwatch
from tests.support.troubles import FrailValkey, loading


def test_it_begins_again_if_another_client_changes_the_key(client: BrokerClient) -> None:
    seen: list[dict[bytes, bytes]] = []

    def change(pipe: WatchingPipeline) -> None:
        seen.append(pipe.hgetall("key"))
        if len(seen) == 1:
            client.hset("key", "theirs", 1)
        pipe.multi()
        pipe.hset("key", "ours", 2)

    change_watched(client, "key", change)
    assert seen == [{}, {b"theirs": b"1"}]
    assert client.hgetall("key") == {b"theirs": b"1", b"ours": b"2"}


@pytest.fixture
def frail(tmp_path: Path) -> Iterator[FrailValkey]:
    """Yield a Valkey that may be brought into trouble."""
    valkey = FrailValkey(tmp_path)
    valkey.begin()
    yield valkey
    valkey.end()


def test_a_broker_that_reads_its_data_is_not_asked_for_ever(frail: FrailValkey) -> None:
    tries = []

    def change(pipe: WatchingPipeline) -> None:
        tries.append(pipe)
        pipe.hgetall("key")

    with loading(frail):
        watch = Stopwatch()
        with pytest.raises(redis.BusyLoadingError):
            change_watched(connect(frail.settings), "key", change)
        # Older releases of redis-py raise before the key is read.
        assert len(tries) <= 1
        assert watch.seconds < 2
