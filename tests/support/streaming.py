"""Streams of tasks whose engine is the test, and a publisher that can be watched and held."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from graycat.queue.models import Attempt, ChunkBatch
from graycat.queue.records import TaskRecords
from graycat.settings import Settings
from graycat.worker.publisher import BatchVerdicts, Publisher
from graycat.worker.stream_relay import RelayedStream, StreamRelay
from tests.support.broker import BrokerClient
from tests.support.helpers import PATIENCE_S, Valkey, eventually, outcome_of
from tests.support.wires import Wire


class WatchedRecords(TaskRecords):
    """Records with a publisher that notes what is published together, and can hold the relay there."""

    def __init__(self, broker: Valkey, settings: Settings) -> None:
        super().__init__(broker.client, settings)
        self.publisher = WatchedPublisher(broker.client, self)
        self.rounds: list[dict[str, list[bytes]]] = []
        self.open = threading.Event()
        self.open.set()
        self.error: Exception | None = None


class WatchedPublisher(Publisher):
    """The publisher of watched records."""

    def __init__(self, client: BrokerClient, watched: WatchedRecords) -> None:
        super().__init__(client, watched)
        self.watched = watched

    def publish(self, batches: Sequence[ChunkBatch]) -> BatchVerdicts:
        watched = self.watched
        watched.rounds.append({batch.attempt.task_id: list(batch.chunks) for batch in batches})
        assert watched.open.wait(PATIENCE_S)
        if watched.error is not None:
            raise watched.error
        return super().publish(batches)


class Streaming:
    """A task whose stream is relayed, from an engine that is the test."""

    def __init__(self, relay: StreamRelay, attempt: Attempt, *, early: bytes = b"", **options: Any) -> None:
        self.wire = Wire(early=early)
        self.attempt = attempt
        self.id = attempt.task_id
        options = {"publish": True} | options
        self.stream = RelayedStream(attempt, self.wire.call, self.wire.stream, **options)
        self._over = outcome_of(lambda: relay.run(self.stream))

    def over(self) -> RelayedStream:
        """Return the stream at its end. Raises what ended it early."""
        try:
            self._over()
        finally:
            self.wire.close()
        return self.stream


def held(watched: WatchedRecords, first: Streaming) -> None:
    """Hold the relay where it publishes an event of ``first``."""
    watched.open.clear()
    rounds = len(watched.rounds)
    first.wire.say(b"data: held\n\n")
    eventually(lambda: len(watched.rounds) > rounds)
