"""A snapshot of the broker: queues, workers, batches and memory, for a scrape or for ``graycat status``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import redis

from graycat.batches.records import BatchRecords
from graycat.broker.client import broker_errors, connect, is_unusable_key
from graycat.broker.keys import (
    BEAT_LOCK,
    DELIVERIES,
    PAUSED_QUEUES,
    PROCESSES,
    SCHEDULES,
    SHARES,
    STORED,
    changed_key,
    events_key,
    failures_key,
    fleet_key,
    live_key,
    means_key,
    needs_key,
    quarantine_key,
    record_key,
    turns_key,
    worker_key,
)
from graycat.broker.protocol import Pipeline
from graycat.broker.quarantine import Quarantine, QuarantinedItem
from graycat.broker.scripts import Scripts
from graycat.errors import BrokerUnavailable
from graycat.families import FAMILIES, find_by_kind
from graycat.fleet.processes import ProcessReports, ProcessStatus
from graycat.fleet.reports import WorkerStatus
from graycat.fleet.workers import parse_names, request_names, request_report, split_reports
from graycat.loops.unexpected import guarded, note
from graycat.queue.names import base_queue
from graycat.queue.stored import ALL
from graycat.settings import Settings
from graycat.status.batches import BatchSnapshot, read_batches
from graycat.status.memory_scan import MemoryScan, MemoryUse
from graycat.status.queues import QueueSnapshot, find_open_work, list_queues, summarize_queues
from graycat.status.scaling import (
    NeedHistory,
    OpenWork,
    ScaleHint,
    find_demand,
    find_hint,
    parse_means,
    request_means,
)

T = TypeVar("T")

#: Seconds that each reply of the broker may take: if it is away, a scrape must say so and not wait.
TIMEOUT_S = 1.0
#: A snapshot is shared by all that ask within this many seconds.
MAX_AGE_S = 0.5
#: Failures that are shown.
MAX_FAILURES = 10
#: Where what webhooks are to be told waits: deliveries, and notes of which the control worker will make some.
UNTOLD = (DELIVERIES, *(changed_key(family.name) for family in FAMILIES))
#: Items of the quarantine that are shown.
MAX_QUARANTINED = 10


@dataclass(frozen=True, slots=True)
class Failure:
    """How a task failed or expired; ``type``: that of the error, '' if an engine's own error has none."""

    at_ms: int
    task_id: str
    kind: str
    worker: str
    state: str
    status: int
    type: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of the system. ``missed``: workers that fell silent; ``deliveries``: pending ones, to webhooks.

    ``held``: the broker's memory by its use. ``failures``: the newest first.
    """

    queues: dict[str, QueueSnapshot]
    workers: list[WorkerStatus]
    missed: list[str]
    deliveries: int
    held: MemoryUse
    failures: list[Failure] = field(default_factory=list)
    batches: BatchSnapshot = field(default_factory=BatchSnapshot)
    #: The processes under ``graycat up`` by their machines, and what was set aside last because no loop could use it.
    processes: dict[str, list[ProcessStatus]] = field(default_factory=dict)
    quarantine: list[QuarantinedItem] = field(default_factory=list)
    #: Whether a beat ticks: it renews its lock at each tick. And how many schedules there are for it.
    beat: bool = False
    schedules: int = 0
    #: What could not be read: keys of the broker that something else has written, and ``batches`` or ``memory``.
    unreadable: list[str] = field(default_factory=list)
    #: How many workers each family would need, by its name; a family is missing if that cannot be read.
    scale: dict[str, ScaleHint] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _First:
    """What the first round trip of a snapshot has told, as the fields of ``Snapshot`` where they have the same names.

    ``due_ms``: when the next delivery is due. ``used``, ``most``, ``stored``: bytes (``MemoryUse``). ``turns``: queues
    in which owners have turns. ``seen_at``: when each worker reported last. ``means``: replies to ``request_means``.
    ``keys``: the reply to ``MemoryScan.request_keys``.
    """

    now_s: float
    paused: set[str]
    deliveries: int
    due_ms: float
    used: int
    most: int
    stored: int
    beat: bool
    schedules: int
    turns: list[str]
    failures: list[Failure]
    seen_at: dict[str, float]
    means: Sequence[Any]
    keys: Any


class SnapshotReader:
    """Takes snapshots. Any thread may ask for one."""

    def __init__(self, settings: Settings) -> None:
        self._client = connect(settings, timeout_s=TIMEOUT_S)
        self._lock = threading.Lock()
        self._scripts = Scripts(self._client, Path(__file__).parent / "lua", ("depths",))
        self._batches = BatchRecords(self._client, settings)
        self._memory = MemoryScan(self._client)
        self._processes = ProcessReports(self._client)
        self._quarantine = Quarantine(self._client)
        self._settings = settings
        self._needs = NeedHistory(self._client, settings)
        self._taken_at = -MAX_AGE_S
        self._snapshot: Snapshot | None = None

    def read(self) -> Snapshot:
        """Return a snapshot that was finished at most half a second ago. Raises BrokerUnavailable."""
        with self._lock:
            if self._snapshot is None or time.monotonic() - self._taken_at >= MAX_AGE_S:
                self._snapshot = self._take()
                # Not the time at which it began: on a busy machine that may be longer ago than MAX_AGE_S. Then all who
                # wait would take one of their own, one after the other, and more of them come meanwhile.
                self._taken_at = time.monotonic()
            return self._snapshot

    def _take(self) -> Snapshot:
        """Take a snapshot in few round trips: in a busy web process each of them waits for its turn.

        What cannot be read, because another program has written there, is left out and named.
        """
        parts = _Parts()
        with broker_errors(), self._client.pipeline(transaction=False) as pipe:
            first = self._read_first(pipe, parts)
            for name in first.seen_at:
                request_report(pipe, name)
            self._memory.request_sizes(pipe, first.keys)
            replies = pipe.execute(raise_on_error=False)
        workers, missing = _parse_reports(first.seen_at, replies, parts)
        sizes = [parts.take("memory", reply, None) for reply in replies[len(first.seen_at) :]]
        depths = self._read_depths(list_queues(workers, first.turns), parts)
        now_s = int(first.now_s)
        batches = parts.read("batches", lambda: read_batches(self._batches, now_s * 1000), BatchSnapshot())
        queues = summarize_queues(workers, depths, first.paused, max(first.now_s - first.due_ms / 1000, 0.0))
        return Snapshot(
            queues=queues,
            workers=workers,
            missed=missing,
            deliveries=first.deliveries,
            held=replace(self._memory.add_sizes(sizes), used=first.used, most=first.most, stored=first.stored),
            failures=first.failures,
            batches=batches,
            processes=parts.read(PROCESSES, self._processes.read, {}),
            quarantine=self._read_quarantine(parts),
            beat=first.beat,
            schedules=first.schedules,
            unreadable=parts.unreadable,
            scale=self._read_scale(find_open_work(queues, workers, batches), first.means, now_s, parts),
        )

    def _read_first(self, pipe: Pipeline, parts: _Parts) -> _First:
        """Run the first round trip. Raises BrokerUnavailable."""
        pipe.time()
        pipe.smembers(PAUSED_QUEUES)
        for key in UNTOLD:
            pipe.zcard(key)
            pipe.zrange(key, 0, 0, withscores=True)
        pipe.info("memory")
        pipe.hget(STORED, ALL)
        pipe.exists(BEAT_LOCK)
        pipe.scard(SCHEDULES)
        _request_shares(pipe)
        request_means(pipe)
        self._memory.request_keys(pipe)
        clock, paused, *replies, keys = pipe.execute(raise_on_error=False)
        for reply in (clock, keys):
            if isinstance(reply, Exception):
                raise reply
        untold, replies = replies[: 2 * len(UNTOLD)], replies[2 * len(UNTOLD) :]
        info, stored, beat, schedules, *shares = replies[: -len(FAMILIES)]
        deliveries, due_ms = _count_deliveries(untold, parts)
        turns, failures, seen_at = _parse_shares(shares, parts)
        memory = parts.take("memory", info, {})
        return _First(
            now_s=clock[0] + clock[1] / 1e6,
            paused=set(map(_decode, parts.take(PAUSED_QUEUES, paused, set()))),
            deliveries=deliveries,
            due_ms=due_ms,
            used=memory.get("used_memory", 0),
            most=memory.get("maxmemory", 0),
            stored=_parse_count(parts.take(STORED, stored, None)),
            beat=bool(beat),
            schedules=parts.take(SCHEDULES, schedules, 0),
            turns=turns,
            failures=failures,
            seen_at=seen_at,
            means=replies[-len(FAMILIES) :],
            keys=keys,
        )

    def _read_scale(self, work: OpenWork, means: Sequence[Any], now_s: int, parts: _Parts) -> dict[str, ScaleHint]:
        """Return the hint of each family. ``means``: the replies to ``request_means``."""
        scale: dict[str, ScaleHint] = {}
        for family, reply in zip(FAMILIES, means, strict=True):
            means_ms = parse_means(family, parts.take(means_key(family.name), reply, ()))
            demand = find_demand(family, work, means_ms)
            found = find_hint(family, self._settings, demand, work.workers)
            held = parts.read(needs_key(family.name), partial(self._needs.hold, family, found, now_s), None)
            if held is not None:
                scale[family.name] = replace(found, hint=held)
        return scale

    def _read_depths(self, queues: Sequence[str], parts: _Parts) -> dict[str, tuple[int, float]]:
        """Return for each queue how many tasks wait for it, parked ones among them, and how long (s) the oldest has."""
        try:
            return self._run_depths(queues)
        except redis.ResponseError as error:
            is_unusable_key(error)
        depths: dict[str, tuple[int, float]] = {}
        for queue in queues:
            try:
                depths |= self._run_depths([queue])
            except redis.ResponseError as error:
                parts.take(queue, error, None)
        return depths

    def _read_quarantine(self, parts: _Parts) -> list[QuarantinedItem]:
        items: list[QuarantinedItem] = []
        for share in SHARES:
            read = partial(self._quarantine.items, MAX_QUARANTINED, (share,))
            items += parts.read(quarantine_key(share), read, [])
        items.sort(key=lambda item: item.at_ms, reverse=True)
        return items[:MAX_QUARANTINED]

    def _run_depths(self, queues: Sequence[str]) -> dict[str, tuple[int, float]]:
        keys = (record_key(""), events_key(""), live_key(FAMILIES[0].name))
        with broker_errors():
            reply = self._scripts.run("depths", keys, queues)
        depths = {}
        for index, queue in enumerate(queues):
            depth, oldest_ms = int(reply[2 * index]), int(reply[2 * index + 1])
            # -1 if no task is known to wait.
            depths[queue] = (depth, max(oldest_ms, 0) / 1000)
        return depths


class _Parts:
    """The parts of a snapshot. One that cannot be read is left out, and named."""

    def __init__(self) -> None:
        self.unreadable: list[str] = []

    def note(self, part: str) -> None:
        """Name a part that cannot be read."""
        if part not in self.unreadable:
            self.unreadable.append(part)

    def take(self, part: str, reply: Any, default: Any) -> Any:
        """Return a reply, or the default if its key cannot be used. Raises the reply if it is another error."""
        if not is_unusable_key(reply):
            return reply
        note("snapshot", reply)
        self.note(part)
        return default

    def read(self, part: str, read: Callable[[], T], default: T) -> T:
        """Return what a function reads, or the default if it fails. Raises BrokerUnavailable."""
        with guarded("snapshot", let_through=(BrokerUnavailable,), set_aside=lambda _: self.note(part)):
            return read()
        return default


def _request_shares(pipe: Pipeline) -> None:
    """Add the commands for what each family and home has apart to a pipeline; replies are for ``_parse_shares``."""
    for family in FAMILIES:
        pipe.smembers(turns_key(family.name))
    for share in SHARES:
        pipe.xrevrange(failures_key(share), count=MAX_FAILURES)
    request_names(pipe)


def _parse_shares(replies: Sequence[Any], parts: _Parts) -> tuple[list[str], list[Failure], dict[str, float]]:
    """Return the queues in which owners have turns, the newest failures, and when each worker last reported."""
    turns: list[str] = []
    failures: list[Failure] = []
    rest = list(replies)
    for family in FAMILIES:
        for queue in map(_decode, parts.take(turns_key(family.name), rest.pop(0), set())):
            # A family's own, whoever has written there.
            if find_by_kind(base_queue(queue)) == family:
                turns.append(queue)
    for share in SHARES:
        key = failures_key(share)
        failures += _parse_failures(key, parts.take(key, rest.pop(0), []), parts)
    failures.sort(key=lambda failure: failure.at_ms, reverse=True)
    for share, reply in zip(SHARES, rest, strict=True):
        parts.take(fleet_key(share), reply, None)
    return turns, failures[:MAX_FAILURES], parse_names(rest)


def _parse_reports(
    seen_at: dict[str, float], replies: Sequence[Any], parts: _Parts
) -> tuple[list[WorkerStatus], list[str]]:
    """Return the workers that live, and the names of those that fell silent. ``replies``: their reports come first."""
    reports = []
    for name, reply in zip(seen_at, replies, strict=False):
        reports.append(parts.take(worker_key(name), reply, None) or None)
    workers, missing = split_reports(seen_at, reports)
    alive = {worker.name for worker in workers}
    for name, report in zip(seen_at, reports, strict=True):
        if report is not None and name not in alive:
            parts.note(worker_key(name))
    return workers, missing


def _decode(name: bytes) -> str:
    return name.decode(errors="replace")


def _parse_count(text: bytes | None) -> int:
    """Return a number; 0 for none, and for what another program has written in its place."""
    if text is None or not text.isdigit():
        return 0
    return int(text)


def _count_deliveries(replies: Sequence[Any], parts: _Parts) -> tuple[int, float]:
    """Return how many deliveries wait, made already or not, and when the first is due (ms)."""
    count = 0
    due_ms = float("inf")
    for key, waiting, first in zip(UNTOLD, replies[::2], replies[1::2], strict=True):
        count += parts.take(key, waiting, 0)
        for _, score in parts.take(key, first, []):
            due_ms = min(due_ms, score)
    return count, due_ms


def _parse_failures(key: str, entries: Iterable[tuple[bytes, dict[bytes, bytes]]], parts: _Parts) -> list[Failure]:
    failures = []
    for entry in entries:
        with guarded("snapshot", set_aside=lambda _: parts.note(key)):
            failures.append(_parse_failure(entry))
    return failures


def _parse_failure(entry: tuple[bytes, dict[bytes, bytes]]) -> Failure:
    entry_id, values = entry
    fields = {name.decode(): value.decode() for name, value in values.items()}
    return Failure(
        at_ms=int(entry_id.partition(b"-")[0]),
        task_id=fields["task"],
        kind=fields["kind"],
        worker=fields["worker"],
        state=fields["state"],
        status=int(fields["status"]),
        type=fields["type"],
    )
