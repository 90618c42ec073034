"""The fleet: what every worker last said of itself, and what that means for callers."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from graycat.broker import keys
from graycat.broker.client import broker_errors
from graycat.broker.protocol import Broker

#: A worker that has been silent for this many seconds is not counted.
SILENT_AFTER_S = 6.0
#: One that is silent and has not said that it leaves is missed for this many seconds, then forgotten.
MISSED_FOR_S = 600.0


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker's report. ``consuming``: its main loop runs and takes tasks; ``props``: its engine's JSON."""

    name: str
    queues: tuple[str, ...]
    engine: str
    engine_state: str
    consuming: bool
    slots: int
    busy: int
    props: str
    #: Ids of the engine's models, and its own ``/v1/models`` answer.
    models: tuple[str, ...] = ()
    model_list: str = ""
    #: Index of the GPU that the engine pins; None for the CPU.
    gpu: int | None = None
    #: How that is doing: utilization (percent), memory_used and memory_total (bytes), temperature (degrees Celsius).
    gpu_state: dict[str, int] | None = None
    #: Whether it was asked to take nothing, how often its engine failed in a row, and what the trouble is.
    paused: bool = False
    failures: int = 0
    trouble: str = ""
    #: Queues of its own that it does not take from, because they are paused or it was told to leave them.
    left: tuple[str, ...] = ()
    #: Whether those failures are a crash loop, what the last one was, and in how many seconds it is started again.
    crash_loop: bool = False
    last_failure: str = ""
    retry_in_s: float = 0.0
    #: Names the state of the engine's catalog, which ``Fleet.catalog`` returns; '' where it has none.
    catalog: str = ""


class WorkerRegistry:
    """The workers' reports in the broker."""

    def __init__(self, client: Broker) -> None:
        self._client = client
        self._written = ""

    def report(self, status: WorkerStatus, catalog: Mapping[str, bytes] | None = None) -> None:
        """Write a worker's report, and the catalog that it names where that is new; it counts for SILENT_AFTER_S."""
        ttl_ms = int(SILENT_AFTER_S * 1000)
        key = keys.catalog_key(status.name)
        with broker_errors(), self._client.pipeline(transaction=True) as pipe:
            pipe.set(keys.worker_key(status.name), json.dumps(asdict(status)), px=ttl_ms)
            pipe.zadd(keys.FLEET, {status.name: time.time()})
            if catalog and status.catalog != self._written:
                pipe.delete(key)
                pipe.hset(key, mapping=dict(catalog))
            pipe.pexpire(key, ttl_ms)
            there = pipe.execute()[-1]
        self._written = status.catalog if there else ""

    def catalog(self, name: str) -> dict[str, bytes]:
        """Return what a worker's engine answers without work, by name: its replies as they came."""
        with broker_errors():
            return {field.decode(): reply for field, reply in self._client.hgetall(keys.catalog_key(name)).items()}

    def paused_queues(self) -> frozenset[str]:
        """Return the queues from which nobody is to take anything for now. Raises BrokerUnavailable."""
        with broker_errors():
            return frozenset(name.decode() for name in self._client.smembers(keys.PAUSED_QUEUES))

    def pause_queue(self, queue: str) -> None:
        """Have no worker take from a queue; it goes on taking in tasks."""
        with broker_errors():
            self._client.sadd(keys.PAUSED_QUEUES, queue)

    def resume_queue(self, queue: str) -> None:
        """Have workers take from a queue again."""
        with broker_errors():
            self._client.srem(keys.PAUSED_QUEUES, queue)

    def leave(self, name: str) -> None:
        """Forget a worker that stops."""
        with broker_errors(), self._client.pipeline(transaction=True) as pipe:
            pipe.delete(keys.worker_key(name), keys.catalog_key(name))
            pipe.zrem(keys.FLEET, name)
            pipe.execute()

    def workers(self) -> list[WorkerStatus]:
        """Return the workers that are alive, by name. Raises BrokerUnavailable."""
        return self.alive_and_missing()[0]

    def alive_and_missing(self) -> tuple[list[WorkerStatus], list[str]]:
        """Return the workers that are alive, and the names of those that are missed. Raises BrokerUnavailable."""
        with broker_errors():
            rows = self._client.zrange(keys.FLEET, 0, -1, withscores=True)
            names = {name.decode(): seen_at for name, seen_at in rows}
            reports = self._client.mget([keys.worker_key(name) for name in names]) if names else []
            alive, missed = split_reports(names, reports)
            if gone := names.keys() - {worker.name for worker in alive} - set(missed):
                self._client.zrem(keys.FLEET, *gone)
        return alive, missed


def split_reports(names: Mapping[str, float], reports: Sequence[bytes | None]) -> tuple[list[WorkerStatus], list[str]]:
    """Return the workers that are alive, and the names of those that are missed.

    ``names``: those known, with when each was last seen; ``reports``: theirs in that order, None where it has lapsed.
    """
    alive = sorted((_read(report) for report in reports if report is not None), key=lambda status: status.name)
    silent = [name for name, report in zip(names, reports, strict=True) if report is None]
    return alive, sorted(name for name in silent if time.time() - names[name] <= MISSED_FOR_S)


def _read(report: bytes) -> WorkerStatus:
    values: dict[str, Any] = json.loads(report)
    for name in ("queues", "models", "left"):
        values[name] = tuple(values.get(name, ()))
    return WorkerStatus(**values)


def select_serving(workers: list[WorkerStatus], queue: str) -> list[WorkerStatus]:
    """Return the workers that take a queue's tasks right now, their engine healthy."""
    taking = [w for w in workers if queue in w.queues and queue not in w.left]
    return [w for w in taking if w.consuming and w.engine_state == "ready"]
