"""The fleet: the last report of every worker, and which workers can take a queue's tasks."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from graycat.broker import keys
from graycat.broker.client import broker_errors, is_unusable_key
from graycat.broker.protocol import Broker, Pipeline
from graycat.fleet.reports import MAX_REPORT_BYTES, WorkerStatus, parse_report
from graycat.loops.unexpected import guarded, note

#: A worker that has not reported for this many seconds does not count as alive.
SILENT_AFTER_S = 6.0
#: A worker that is silent, and did not deregister, is shown as missing for this many seconds, then forgotten.
MISSED_FOR_S = 600.0
#: The most names of workers that are looked at, the newest ones, and the most of one box. Any box may write any names.
MAX_NAMES, MAX_OF_BOX = 5000, 64
#: The most lists that a catalog has, and the most bytes of all of them.
MAX_LISTS, MAX_CATALOG_BYTES = 64, 8 * 1024 * 1024
_NAME = re.compile(r"[!-~]{1,200}")


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
            pipe.zadd(_fleet_key(status.name), {status.name: time.time()})
            if catalog and status.catalog != self._written_catalog:
                pipe.delete(key)
                pipe.hset(key, mapping=dict(catalog))
            pipe.pexpire(key, ttl_ms)
            catalog_exists = pipe.execute()[-1]
        self._written_catalog = ""
        if catalog_exists:
            self._written_catalog = status.catalog

    def catalog(self, name: str) -> dict[str, bytes]:
        """Return the catalog of a worker's engine: its replies, unchanged, by their paths.

        It is empty if it is larger than any: its worker may be anybody's.
        """
        key = keys.catalog_key(name)
        with broker_errors(), self._client.pipeline(transaction=False) as pipe:
            if not 0 < self._client.hlen(key) <= MAX_LISTS:
                return {}
            paths = self._client.hkeys(key)
            for path in paths:
                pipe.hstrlen(key, path)
            if sum(pipe.execute()) > MAX_CATALOG_BYTES:
                return {}
            replies = self._client.hmget(key, paths)
        catalog = {}
        for path, reply in zip(paths, replies, strict=True):
            # It may have gone meanwhile.
            if reply is not None:
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
            # The user of a box may delete each, by rules of their own: a command on both would fit none of these.
            pipe.delete(keys.worker_key(name))
            pipe.delete(keys.catalog_key(name))
            pipe.zrem(_fleet_key(name), name)
            pipe.execute()

    def workers(self) -> list[WorkerStatus]:
        """Return the workers that are alive, by name. Raises BrokerUnavailable."""
        return self.alive_and_missing()[0]

    def alive_and_missing(self) -> tuple[list[WorkerStatus], list[str]]:
        """Return the workers that are alive, and the names of the missing ones. Raises BrokerUnavailable."""
        with broker_errors():
            with self._client.pipeline(transaction=False) as pipe:
                request_names(pipe)
                replies = pipe.execute(raise_on_error=False)
            for reply in replies:
                if is_unusable_key(reply):
                    note("fleet", reply)
            seen_at = parse_names(replies)
            if not seen_at:
                return [], []
            with self._client.pipeline(transaction=False) as pipe:
                for worker in seen_at:
                    request_report(pipe, worker)
                replies = pipe.execute(raise_on_error=False)
            reports = [None if is_unusable_key(reply) else reply or None for reply in replies]
            alive, missing = split_reports(seen_at, reports)
            forgotten = seen_at.keys() - set(missing)
            forgotten -= {worker.name for worker in alive}
            for name in forgotten:
                self._client.zrem(_fleet_key(name), name)
        return alive, missing


def request_report(pipe: Pipeline, name: str) -> None:
    """Ask for a worker's report, and for no more bytes than one has. The reply is empty if there is none."""
    pipe.getrange(keys.worker_key(name), 0, MAX_REPORT_BYTES)


def _fleet_key(name: str) -> str:
    return keys.fleet_key(keys.share_of_worker(name))


def request_names(pipe: Pipeline) -> None:
    """Add the commands for the names of all workers to a pipeline; their replies are for ``parse_names``."""
    for share in keys.SHARES:
        pipe.zrange(keys.fleet_key(share), -MAX_NAMES, -1, withscores=True)


def parse_names(replies: Sequence[Any]) -> dict[str, float]:
    """Return when each worker last reported, by name. One that reports where others belong is left out."""
    seen_at: dict[str, float] = {}
    for share, reply in zip(keys.SHARES, replies, strict=True):
        if isinstance(reply, Exception):
            continue
        for name, seconds in reply:
            decoded = name.decode(errors="replace")
            if keys.share_of_worker(decoded) == share:
                seen_at[decoded] = seconds
    return seen_at


def split_reports(
    seen_at: Mapping[str, float], reports: Sequence[bytes | None]
) -> tuple[list[WorkerStatus], list[str]]:
    """Return the workers that are alive, and the names of the missing ones, both sorted.

    ``seen_at``: when each known worker last reported, by name; ``reports``: theirs in the same order, None if it has
    expired.
    """
    alive = []
    missing = []
    of_box: Counter[str] = Counter()
    for name, report in zip(seen_at, reports, strict=True):
        box = name.partition("@")[2].partition("-gpu")[0]
        of_box[box] += 1
        if not _NAME.fullmatch(name) or of_box[box] > MAX_OF_BOX:
            continue
        if report is not None:
            status = parse_report(name, report)
            if status is not None:
                alive.append(status)
        # A box's clock may be wrong, but not by more.
        elif abs(time.time() - seen_at[name]) <= MISSED_FOR_S:
            missing.append(name)
    alive.sort(key=lambda status: status.name)
    return alive, sorted(missing)


def select_serving(workers: list[WorkerStatus], queue: str) -> list[WorkerStatus]:
    """Return the workers that take a queue's tasks now: they consume it, and their engine is ready."""
    found = []
    for worker in workers:
        takes_queue = queue in worker.queues and queue not in worker.left
        if takes_queue and worker.consuming and worker.engine_state == "ready":
            found.append(worker)
    return found
