"""The fleet: the last report of every worker, and which workers can take a queue's tasks."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import redis

from graycat.bounds.stored import parse_json
from graycat.broker import keys
from graycat.broker.client import broker_errors, is_unusable_key
from graycat.broker.protocol import Broker
from graycat.loops.unexpected import guarded, note

#: A worker that has not reported for this many seconds does not count as alive.
SILENT_AFTER_S = 6.0
#: A worker that is silent, and did not deregister, is shown as missing for this many seconds, then forgotten.
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
    #: The GPU's state: utilization (percent), memory_used and memory_total (bytes), temperature (degrees Celsius).
    gpu_state: dict[str, int] | None = None
    #: Whether it was asked to take nothing, how often its engine failed in a row, and what is wrong.
    paused: bool = False
    failures: int = 0
    trouble: str = ""
    #: Queues of its own that it does not take from, because they are paused or it was told to leave them.
    left: tuple[str, ...] = ()
    #: Whether those failures are a crash loop, what the last one was, and the seconds until the next start.
    crash_loop: bool = False
    last_failure: str = ""
    retry_in_s: float = 0.0
    #: The version of the engine's catalog, which ``WorkerRegistry.catalog`` returns; '' if it has none.
    catalog: str = ""
    #: How old the answer of ``/slots`` in that catalog is.
    slots_age_s: float = 0.0
    #: The names of its loops (``graycat.loops``) that are stuck or gone.
    stuck: tuple[str, ...] = ()


#: What a report of another version may lack; each also has the type of its field.
_REQUIRED: dict[str, Any] = {
    "name": "",
    "queues": (),
    "engine": "",
    "engine_state": "",
    "consuming": False,
    "slots": 1,
    "busy": 0,
    "props": "",
}
_NULLABLE = ("gpu", "gpu_state")
_DEFAULTS = dict(_REQUIRED)
for _field in fields(WorkerStatus):
    if _field.name not in _REQUIRED and _field.name not in _NULLABLE:
        _DEFAULTS[_field.name] = _field.default
GPU_FIELDS = ("utilization", "memory_used", "memory_total", "temperature")


class WorkerRegistry:
    """The workers' reports in the broker."""

    def __init__(self, client: Broker) -> None:
        self._client = client
        #: The version of the catalog that is in the broker.
        self._written_catalog = ""

    def report(self, status: WorkerStatus, catalog: Mapping[str, bytes] | None = None) -> None:
        """Write a worker's report, valid for SILENT_AFTER_S, and its catalog if that has a new version."""
        ttl_ms = int(SILENT_AFTER_S * 1000)
        key = keys.catalog_key(status.name)
        with broker_errors(), self._client.pipeline(transaction=True) as pipe:
            pipe.set(keys.worker_key(status.name), json.dumps(asdict(status)), px=ttl_ms)
            pipe.zadd(keys.FLEET, {status.name: time.time()})
            if catalog and status.catalog != self._written_catalog:
                pipe.delete(key)
                pipe.hset(key, mapping=dict(catalog))
            pipe.pexpire(key, ttl_ms)
            catalog_exists = pipe.execute()[-1]
        self._written_catalog = ""
        if catalog_exists:
            self._written_catalog = status.catalog

    def catalog(self, name: str) -> dict[str, bytes]:
        """Return the catalog of a worker's engine: its replies, unchanged, by their paths."""
        with broker_errors():
            replies = self._client.hgetall(keys.catalog_key(name))
        catalog = {}
        for path, reply in replies.items():
            catalog[path.decode(errors="replace")] = reply
        return catalog

    def paused_queues(self) -> frozenset[str]:
        """Return the queues that an operator has paused: no worker takes from them. Raises BrokerUnavailable."""
        with broker_errors():
            members = self._client.smembers(keys.PAUSED_QUEUES)
        queues = set()
        for member in members:
            # One that is no text names no queue. Each report of each worker reads them.
            with guarded("fleet"):
                queues.add(member.decode())
        return frozenset(queues)

    def pause_queue(self, queue: str) -> None:
        """Make all workers stop taking from a queue. Tasks are still accepted into it."""
        with broker_errors():
            self._client.sadd(keys.PAUSED_QUEUES, queue)

    def resume_queue(self, queue: str) -> None:
        """Let workers take from a queue again."""
        with broker_errors():
            self._client.srem(keys.PAUSED_QUEUES, queue)

    def leave(self, name: str) -> None:
        """Remove a worker that stops."""
        with broker_errors(), self._client.pipeline(transaction=True) as pipe:
            pipe.delete(keys.worker_key(name), keys.catalog_key(name))
            pipe.zrem(keys.FLEET, name)
            pipe.execute()

    def workers(self) -> list[WorkerStatus]:
        """Return the workers that are alive, by name. Raises BrokerUnavailable."""
        return self.alive_and_missing()[0]

    def alive_and_missing(self) -> tuple[list[WorkerStatus], list[str]]:
        """Return the workers that are alive, and the names of the missing ones. Raises BrokerUnavailable."""
        with broker_errors():
            try:
                rows = self._client.zrange(keys.FLEET, 0, -1, withscores=True)
            except redis.ResponseError as error:
                if is_unusable_key(error):
                    note("fleet", error)
                rows = []
            seen_at = {}
            for name, seconds in rows:
                seen_at[name.decode(errors="replace")] = seconds
            if not seen_at:
                return [], []
            # MGET returns None for a key of another type.
            reports = self._client.mget(list(map(keys.worker_key, seen_at)))
            alive, missing = split_reports(seen_at, reports)
            forgotten = seen_at.keys() - set(missing)
            forgotten -= {worker.name for worker in alive}
            if forgotten:
                self._client.zrem(keys.FLEET, *forgotten)
        return alive, missing


def split_reports(
    seen_at: Mapping[str, float], reports: Sequence[bytes | None]
) -> tuple[list[WorkerStatus], list[str]]:
    """Return the workers that are alive, and the names of the missing ones, both sorted.

    ``seen_at``: when each known worker last reported, by name; ``reports``: theirs in the same order, None if it has
    expired.
    """
    alive = []
    missing = []
    for name, report in zip(seen_at, reports, strict=True):
        if report is not None:
            status = _parse_report(name, report)
            if status is not None:
                alive.append(status)
        elif time.time() - seen_at[name] <= MISSED_FOR_S:
            missing.append(name)
    alive.sort(key=lambda status: status.name)
    return alive, sorted(missing)


def _parse_report(name: str, report: bytes) -> WorkerStatus | None:
    """Return the status in a report; None if it cannot be used. Fields of a newer version are ignored."""
    try:
        values = parse_json(report)
        known = dict(_DEFAULTS, name=name)
        for field_name, default in _DEFAULTS.items():
            if field_name in values:
                known[field_name] = _check_type(values[field_name], default)
        return WorkerStatus(**known, gpu=_parse_gpu(values.get("gpu")), gpu_state=_parse_gpu_state(values))
    except Exception as error:  # noqa: BLE001 (another program may have written anything)
        note("fleet", error)
        return None


def _check_type(value: Any, default: Any) -> Any:
    """Return a field's value, which must be of its default's type. Raises TypeError."""
    if isinstance(default, tuple):
        return tuple(_check_type(item, "") for item in _check_type(value, []))
    if isinstance(default, float):
        return float(value)
    if type(value) is not type(default):
        raise TypeError
    return value


def _parse_gpu(value: Any) -> int | None:
    if value is None:
        return None
    return int(_check_type(value, 0))


def _parse_gpu_state(values: Mapping[str, Any]) -> dict[str, int] | None:
    state = values.get("gpu_state")
    if state is None:
        return None
    return {name: int(state[name]) for name in GPU_FIELDS}


def select_serving(workers: list[WorkerStatus], queue: str) -> list[WorkerStatus]:
    """Return the workers that take a queue's tasks now: they consume it, and their engine is ready."""
    found = []
    for worker in workers:
        takes_queue = queue in worker.queues and queue not in worker.left
        if takes_queue and worker.consuming and worker.engine_state == "ready":
            found.append(worker)
    return found
