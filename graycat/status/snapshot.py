"""One look at the broker: queues, workers and what is held there, for a scrape or for ``graycat status``."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from graycat.batches.records import BatchRecords
from graycat.broker.client import broker_errors, connect
from graycat.broker.keys import (
    DELIVERIES,
    FAILURES,
    FLEET,
    LIVE_TASKS,
    PAUSED_QUEUES,
    TURNS,
    events_key,
    record_key,
    worker_key,
)
from graycat.broker.scripts import Scripts
from graycat.fleet.workers import WorkerStatus, select_serving, split_reports
from graycat.queue import topology
from graycat.queue.names import base_queue
from graycat.queue.topology import CONTROL, engine_queues
from graycat.settings import Settings
from graycat.status.batches import BatchSnapshot, read_batches
from graycat.status.memory_scan import MemoryScan, MemoryUse

#: Seconds that each of the broker's answers may take: a scrape is to tell that it is away, not to wait for it.
TIMEOUT_S = 1.0
#: Seconds that a look is good for, however many ask.
FRESH_S = 0.5
#: Failures that are shown.
MAX_FAILURES = 10


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """A queue with those of its models and workers. ``oldest_s``: how long its oldest task has waited; 0 for none."""

    depth: int
    oldest_s: float
    consumers: int
    paused: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """How a task failed or expired; ``type`` is the error's, '' where an engine's own error has none."""

    at_ms: int
    task_id: str
    kind: str
    worker: str
    state: str
    status: int
    type: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was seen. ``missed``: workers that fell silent; ``deliveries``: what webhooks are still to be told.

    ``failures``: the newest first.
    """

    queues: dict[str, QueueSnapshot]
    workers: list[WorkerStatus]
    missed: list[str]
    deliveries: int
    held: MemoryUse
    failures: list[Failure] = field(default_factory=list)
    batches: BatchSnapshot = field(default_factory=BatchSnapshot)


class SnapshotReader:
    """Looks at the broker; any thread may ask it."""

    def __init__(self, settings: Settings) -> None:
        self._client = connect(settings, timeout_s=TIMEOUT_S)
        self._looking = threading.Lock()
        self._scripts = Scripts(self._client, Path(__file__).parent / "lua", ("depths",))
        self._batches = BatchRecords(self._client, settings)
        self._census = MemoryScan(self._client)
        self._seen: tuple[float, Snapshot] | None = None

    def read(self) -> Snapshot:
        """Return what is seen now, or was half a second ago. Raises BrokerUnavailable."""
        with self._looking:
            now = time.monotonic()
            if self._seen is None or now - self._seen[0] >= FRESH_S:
                self._seen = now, self._look()
            return self._seen[1]

    def _look(self) -> Snapshot:
        """Look, in few round trips: a busy web process has each of them wait for its turn."""
        with broker_errors(), self._client.pipeline(transaction=False) as pipe:
            pipe.zrange(FLEET, 0, -1, withscores=True)
            pipe.smembers(PAUSED_QUEUES)
            pipe.smembers(TURNS)
            pipe.time()
            pipe.zcard(DELIVERIES)
            pipe.zrange(DELIVERIES, 0, 0, withscores=True)
            pipe.xrevrange(FAILURES, count=MAX_FAILURES)
            self._census.ask(pipe)
            names, paused, turns, clock, deliveries, first, failures, keys = pipe.execute()
            seen_at = {name.decode(): at for name, at in names}
            # No worker is called so; a command without a key would be an error.
            pipe.mget([worker_key(name) for name in seen_at] or [worker_key("")])
            self._census.weigh(pipe, keys)
            reports, *sizes = pipe.execute()
        workers, missed = split_reports(seen_at, reports if seen_at else ())
        depths = self._depths(_names(workers, {name.decode() for name in turns}))
        late_s = max(clock[0] + clock[1] / 1e6 - first[0][1] / 1000, 0.0) if first else 0.0
        batches = read_batches(self._batches, clock[0] * 1000)
        queues = _queues(workers, depths, {name.decode() for name in paused}, late_s)
        held = self._census.count(sizes)
        return Snapshot(queues, workers, missed, deliveries, held, list(map(_failure, failures)), batches)

    def _depths(self, queues: Sequence[str]) -> dict[str, tuple[int, float | None]]:
        """Return for each queue how many tasks wait for it, and how long (s) the oldest has; None where none is known.

        Those that wait aside for their owner's turn are among them.
        """
        keys = (record_key(""), events_key(""), LIVE_TASKS)
        with broker_errors():
            reply = self._scripts.run("depths", keys, queues)
        pairs = zip(map(int, reply[::2]), map(int, reply[1::2]), strict=True)
        return {queue: (n, ms / 1000 if ms >= 0 else None) for queue, (n, ms) in zip(queues, pairs, strict=True)}


def _queues(
    workers: list[WorkerStatus], depths: dict[str, tuple[int, float | None]], paused: set[str], late_s: float
) -> dict[str, QueueSnapshot]:
    """Return what is seen of the queues; ``late_s``: how late the first delivery is."""
    queues = {}
    for queue in topology.QUEUES:
        mine = [depth for name, depth in depths.items() if base_queue(name) == queue]
        # What lies in the control queue has no record; what it is late with tells as much.
        oldest = late_s if queue == CONTROL else max((waited or 0.0 for _, waited in mine), default=0.0)
        depth, consumers = sum(n for n, _ in mine), len(select_serving(workers, queue))
        queues[queue] = QueueSnapshot(depth, oldest, consumers, queue in paused)
    return queues


def _failure(entry: tuple[bytes, dict[bytes, bytes]]) -> Failure:
    at, fields = entry[0].decode(), {name.decode(): value.decode() for name, value in entry[1].items()}
    return Failure(
        at_ms=int(at.partition("-")[0]),
        task_id=fields["task"],
        kind=fields["kind"],
        worker=fields["worker"],
        state=fields["state"],
        status=int(fields["status"]),
        type=fields["type"],
    )


def _names(workers: list[WorkerStatus], turns: set[str]) -> list[str]:
    """Return every queue that may hold tasks: the common ones, those of models and of workers."""
    names = set(topology.QUEUES) | turns
    for worker in workers:
        for queue in worker.queues:
            names.update(engine_queues(queue, worker.models, worker.name))
    return sorted(names)
