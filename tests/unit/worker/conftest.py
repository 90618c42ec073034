"""Fixtures of the worker's tests: a relay, and streams for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from graycat.engines.client import StopReason
from graycat.settings import Settings
from graycat.worker.stream_relay import StreamRelay
from tests.support.helpers import Valkey, started
from tests.support.streaming import Streaming, WatchedRecords


@pytest.fixture
def watched(broker: Valkey, settings: Settings) -> WatchedRecords:
    return WatchedRecords(broker, settings)


@pytest.fixture
def relay(watched: WatchedRecords) -> StreamRelay:
    return StreamRelay(watched.publisher)


@pytest.fixture
def begin(relay: StreamRelay, watched: WatchedRecords) -> Iterator[Callable[..., Streaming]]:
    """Return how to have a new task's stream relayed; what a test leaves open is ended."""
    made: list[Streaming] = []

    def start(**options) -> Streaming:
        made.append(Streaming(relay, started(watched), **options))
        return made[-1]

    yield start
    watched.open.set()
    for streaming in made:
        streaming.wire.call.stop(StopReason.SHUTDOWN)
        streaming.wire.close()
