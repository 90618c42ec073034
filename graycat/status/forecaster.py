"""What a forecast needs from the broker: who runs what, how long tasks take, which queues are paused."""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graycat.bounds.stored import parse_json
from graycat.broker.client import broker_errors, is_unusable_key
from graycat.broker.keys import means_key, owners_key, parked_key, record_key
from graycat.broker.protocol import Broker
from graycat.fleet.reports import WorkerStatus
from graycat.fleet.workers import WorkerRegistry
from graycat.loops.unexpected import guarded
from graycat.queue.kinds import KINDS
from graycat.queue.names import base_queue
from graycat.queue.records import TaskRecords
from graycat.queue.redelivery import unacked_keys
from graycat.queue.topology import QUEUES, worker_kind_of
from graycat.status.forecast import (
    MAX_SLOTS,
    Line,
    Taker,
    Wait,
    find_start,
    queues_before,
    queues_of,
    takes_now,
    why_unknown,
)

#: Seconds for which one look at queues and running tasks serves all who ask.
MAX_AGE_S = 1.0
#: How many of the messages at a queue's head, and of the tasks that are parked behind them, are looked at.
LOOK_AT = 32
#: How many tasks that run are looked at, at most.
MAX_RUNNING = 512
#: A task that runs longer than such tasks do runs on for this part of the time it has run already.
OVERTIME = 0.5


@dataclass(frozen=True, slots=True)
class _Running:
    kind: str
    worker: str
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class _Front:
    """The first tasks of a queue: whether there are any, and the seconds of one; None if that was never measured."""

    is_empty: bool
    mean_s: float | None


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which queues go before one, which workers take from these and from it, or why none does."""

    before: Sequence[str]
    takers: Sequence[Taker]
    reason: str


@dataclass(frozen=True, slots=True)
class _Known:
    """What was known of a family at one moment."""

    at: float
    workers: Sequence[WorkerStatus]
    paused: frozenset[str]
    means_s: Mapping[str, float]
    running: Mapping[str, Sequence[_Running]]
    #: How long the tasks take that wait in front, by queue; filled as queues are asked about.
    in_front: dict[str, _Front] = field(default_factory=dict)
    #: What follows for a queue from the fleet, filled likewise.
    plans: dict[str, _Plan] = field(default_factory=dict)


class Forecaster:
    """Tells when tasks will be started. Every method raises BrokerUnavailable.

    A look at the queues is shared for ``MAX_AGE_S``, so that a thousand who poll cost what one does, but for the counts
    of their own queues.
    """

    def __init__(self, client: Broker, records: TaskRecords, registry: WorkerRegistry) -> None:
        self._client, self._records, self._registry = client, records, registry
        self._known: dict[str, _Known] = {}

    def wait(self, task_id: str, record: Mapping[str, str], workers: Sequence[WorkerStatus]) -> Wait:
        """Return when a queued task will be started. ``record``: its record; ``workers``: the fleet."""
        queue = record["queue"]
        known = self._look(queue, workers)
        plan = known.plans.get(queue)
        if plan is None:
            plan = known.plans[queue] = self._plan(queue, record["kind"], known)
        own, waiting = self._records.count_ahead(task_id, plan.before)
        if own == 0:
            return Wait(0, None, "it does not wait any more")
        ahead = {**waiting, queue: own - 1}
        if plan.reason:
            return Wait(sum(ahead.values()) + 1, None, plan.reason)
        task_s, measured = self._durations(ahead, record["kind"], known)
        position, eta_s = find_start(plan.takers, Line(queue, ahead, task_s))
        if not measured:
            return Wait(position, None, "no such task has ended yet, so it is not known how long they take")
        return Wait(position, round(eta_s, 1))

    def _plan(self, queue: str, kind: str, known: _Known) -> _Plan:
        workers = known.workers
        before = queues_before(queue, workers, known.paused)
        reason = why_unknown(queue, workers, known.paused)
        takers = []
        usual_s = known.means_s.get(kind, known.means_s.get(base_queue(queue), 0.0))
        for worker in workers:
            if takes_now(worker) and not reason:
                taken = queues_of(worker, known.paused)
                takers.append(Taker(tuple(taken), self._free_in_s(worker, taken, usual_s, known)))
        return _Plan(before, takers, reason)

    def _free_in_s(
        self, worker: WorkerStatus, taken: Sequence[str], usual_s: float, known: _Known
    ) -> tuple[float, ...]:
        """Return for each slot of a worker the seconds until it is free. ``usual_s``: those of a task that waits.

        Where a task waits, slots are taken: one of which nothing is known has just begun what was first in line.
        """
        slots = min(max(worker.slots, 1), MAX_SLOTS)
        free = []
        for task in known.running.get(worker.name, ())[:slots]:
            mean_s = known.means_s.get(task.kind, 0.0)
            left_s = mean_s - task.elapsed_s
            if left_s <= 0:
                left_s = OVERTIME * task.elapsed_s
            free.append(left_s)
        for front in (self._front(queue, known) for queue in taken):
            if not front.is_empty:
                usual_s = front.mean_s or usual_s
                break
        return tuple(free + [usual_s] * (slots - len(free)))

    def _durations(self, ahead: Mapping[str, int], kind: str, known: _Known) -> tuple[dict[str, float], bool]:
        """Return the seconds of a task of each queue, and whether all that matter were measured."""
        own_s = known.means_s.get(kind)
        task_s: dict[str, float] = {}
        measured = True
        for queue, waiting in ahead.items():
            found = self._front(queue, known).mean_s
            if found is None:
                found = own_s
            if found is None and waiting:
                measured = False
            task_s[queue] = found or 0.0
        return task_s, measured and any(task_s.values())

    def _front(self, queue: str, known: _Known) -> _Front:
        """Return what waits in front of a queue, as it was when it was first asked about."""
        if queue not in known.in_front:
            known.in_front[queue] = _Front(True, known.means_s.get(base_queue(queue)))
            with guarded("snapshot"):
                kinds = self._kinds_in_front(queue)
                known.in_front[queue] = _Front(not kinds, _average(kinds, base_queue(queue), known))
        return known.in_front[queue]

    def _kinds_in_front(self, queue: str) -> list[str]:
        """Return the kinds of the first tasks of a queue, and of the first that are parked behind them."""
        kinds = []
        with broker_errors():
            for message in self._client.lrange(queue, -LOOK_AT, -1):
                kinds.append(_header(message, "task"))
            owners = self._client.zrange(owners_key(queue), 0, LOOK_AT - 1)
            with self._client.pipeline(transaction=False) as pipe:
                for owner in owners:
                    pipe.lrange(parked_key(queue, owner.decode(errors="replace")), 0, max(LOOK_AT // len(owners), 1))
                parked = [task_id for reply in pipe.execute(raise_on_error=False) for task_id in _list(reply)]
            with self._client.pipeline(transaction=False) as pipe:
                for task_id in parked:
                    pipe.hget(record_key(task_id.decode(errors="replace")), "kind")
                replies = pipe.execute(raise_on_error=False)
        kinds += [reply.decode(errors="replace") for reply in replies if isinstance(reply, bytes)]
        return kinds

    def _look(self, queue: str, workers: Sequence[WorkerStatus]) -> _Known:
        """Return what is known of a queue's family, as of a moment ago at most and with the same report of workers."""
        family = base_queue(queue).partition(".")[0]
        known = self._known.get(family)
        now = time.monotonic()
        if known is None or known.workers is not workers or now - known.at >= MAX_AGE_S:
            paused = self._registry.paused_queues()
            known = _Known(now, workers, paused, self._read_means(family), self._read_running(queue))
            self._known[family] = known
        return known

    def _read_means(self, family: str) -> dict[str, float]:
        names = [name for name in (*KINDS, *QUEUES) if name.partition(".")[0] == family]
        means_s = {}
        with broker_errors(), guarded("snapshot"):
            for name, value in zip(names, self._client.hmget(means_key(family), names), strict=True):
                if value is not None and re.fullmatch(rb"[0-9]{1,12}", value):
                    means_s[name] = int(value) / 1000
        return means_s

    def _read_running(self, queue: str) -> dict[str, list[_Running]]:
        """Return the tasks that run, by worker, those that run longest first.

        They are what workers have taken and not acknowledged, so there are as many as slots.
        """
        running: dict[str, list[_Running]] = defaultdict(list)
        with broker_errors(), guarded("snapshot"):
            key = unacked_keys(worker_kind_of(queue))["unacked_key"]
            if not 0 < self._client.hlen(key) <= MAX_RUNNING:
                return running
            ids = [_header(message, "id") for message in self._client.hvals(key)]
            with self._client.pipeline(transaction=False) as pipe:
                pipe.time()
                for task_id in ids:
                    pipe.hmget(record_key(task_id), ("state", "kind", "worker", "claimed_ms"))
                (seconds, micros), *rows = pipe.execute(raise_on_error=False)
            now_s = seconds + micros / 1e6
            for row in rows:
                if not is_unusable_key(row):
                    _add_running(running, row, now_s)
        for tasks in running.values():
            tasks.sort(key=lambda task: task.elapsed_s, reverse=True)
        return running


def _average(kinds: Sequence[str], queue: str, known: _Known) -> float | None:
    """Return the mean seconds of tasks of some kinds. What runs longer than is usual makes its kind longer."""
    usual_s = known.means_s.get(queue)
    longest: dict[str, float] = defaultdict(float)
    for tasks in known.running.values():
        for task in tasks:
            longest[task.kind] = max(longest[task.kind], task.elapsed_s)
    times = []
    for kind in kinds:
        mean_s = known.means_s.get(kind, usual_s)
        if mean_s is not None or kind in longest:
            times.append(max(mean_s or 0.0, longest.get(kind, 0.0)))
    if not times:
        return usual_s
    return sum(times) / len(times)


def _add_running(running: dict[str, list[_Running]], row: Sequence[bytes | None], now_s: float) -> None:
    state, kind, worker, claimed_ms = ((value or b"").decode(errors="replace") for value in row)
    if state == "running" and re.fullmatch("[0-9]{1,15}", claimed_ms):
        running[worker].append(_Running(kind, worker, max(now_s - int(claimed_ms) / 1000, 0.0)))


def _list(reply: Any) -> list[bytes]:
    return reply if isinstance(reply, list) else []


def _header(message: bytes, name: str) -> str:
    """Return a header of a Celery message, as it lies in a queue or among those that are taken; '' if it has none."""
    try:
        value = parse_json(message)
        if isinstance(value, list):
            value = value[0]
        if isinstance(value, str):
            value = json.loads(value)
        return str(value["headers"][name])
    except (ValueError, TypeError, LookupError):
        return ""
