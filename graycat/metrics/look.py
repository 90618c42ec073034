"""One look at the broker: queues, workers and what is held there, for a scrape or for ``graycat status``."""

from __future__ import annotations

import time
from dataclasses import dataclass

import celeryconfig
from graycat import store
from graycat.fleet import Fleet, WorkerStatus, serving
from graycat.metrics.census import Census, Held
from graycat.records import TaskRecords
from graycat.settings import Settings
from graycat.tasks.signatures import CONTROL, SD, model_queue, worker_queue

#: Seconds that each of the broker's answers may take: a scrape is to tell that it is away, not to wait for it.
TIMEOUT_S = 1.0
#: Seconds that a look is good for, however many ask.
FRESH_S = 0.5


@dataclass(frozen=True, slots=True)
class QueueLook:
    """A queue with those of its models and workers. ``oldest_s``: how long its oldest task has waited; 0 for none."""

    depth: int
    oldest_s: float
    consumers: int
    paused: bool


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen. ``missed``: workers that fell silent; ``deliveries``: what webhooks are still to be told."""

    queues: dict[str, QueueLook]
    workers: list[WorkerStatus]
    missed: list[str]
    deliveries: int
    held: Held


class Observer:
    """Looks at the broker; any thread may ask it."""

    def __init__(self, settings: Settings) -> None:
        self._client = store.connect(settings, timeout_s=TIMEOUT_S)
        self._fleet = Fleet(self._client)
        self._records = TaskRecords(self._client, settings)
        self._census = Census(self._client)
        self._seen: tuple[float, Look] | None = None

    def look(self) -> Look:
        """Return what is seen now, or was half a second ago. Raises BrokerUnavailable."""
        now = time.monotonic()
        if self._seen is None or now - self._seen[0] >= FRESH_S:
            self._seen = now, self._look()
        return self._seen[1]

    def _look(self) -> Look:
        workers, missed = self._fleet.roll_call()
        paused = self._fleet.paused_queues()
        with store.broker_errors(), self._client.pipeline(transaction=False) as pipe:
            pipe.zcard(store.DELIVERIES)
            pipe.zrange(store.DELIVERIES, 0, 0, withscores=True)
            pipe.time()
            pipe.smembers(store.TURNS)
            deliveries, first, (seconds, micros), turns = pipe.execute()
        late_s = max(seconds + micros / 1e6 - first[0][1] / 1000, 0.0) if first else 0.0
        depths = self._records.depths(_names(workers, {name.decode() for name in turns}))
        queues = {}
        for queue in celeryconfig.QUEUES:
            mine = [depth for name, depth in depths.items() if name.partition(":")[0] == queue]
            # What lies in the control queue has no record; what it is late with tells as much.
            oldest = late_s if queue == CONTROL else max((waited or 0.0 for _, waited in mine), default=0.0)
            depth, consumers = sum(n for n, _ in mine), len(serving(workers, queue))
            queues[queue] = QueueLook(depth, oldest, consumers, queue in paused)
        return Look(queues, workers, missed, deliveries, self._census.step())


def _names(workers: list[WorkerStatus], turns: set[str]) -> list[str]:
    """Return every queue that may hold tasks: the common ones, those of models and of workers."""
    names = set(celeryconfig.QUEUES) | turns
    for worker in workers:
        for queue in worker.queues:
            names |= {model_queue(queue, model) for model in worker.models}
            if queue == SD:
                names.add(worker_queue(queue, worker.name))
    return sorted(names)
