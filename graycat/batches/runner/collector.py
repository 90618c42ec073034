"""Collecting: an item whose task has ended becomes a file, a line of the manifest, and is done; or runs again."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from graycat.batches import manifest
from graycat.batches.items import BatchItems, Known
from graycat.batches.live import LiveBatch, LiveBatches
from graycat.batches.output import Output
from graycat.batches.plan import Item
from graycat.batches.states import CANCELLED, DONE, FAILED, QUEUED, RUNNING, WAITING
from graycat.batches.throughput import ThroughputStats
from graycat.broker import keys
from graycat.broker.client import broker_errors
from graycat.broker.protocol import Broker
from graycat.queue import events
from graycat.queue.records import TaskRecords
from graycat.storage.artifacts import ArtifactStore
from graycat.storage.errors import ArtifactBroken, ArtifactsUnavailable

logger = logging.getLogger(__name__)

#: What is read of a task; the body stays where it is.
FIELDS = ("state", "attempt", "status", "worker", "submitted_ms", "claimed_ms", "finished_ms")
#: Failures that are not the item's own: it is made again, so often in a row.
PASSING = frozenset(
    {"task_lost", "engine_lost", "task_timeout", "artifacts_unavailable", "unavailable_error", "server_error", ""}
)
MAX_FAILURES = 3

Row = Mapping[str, str]


class Collector:
    """Looks at the tasks of a batch's items and takes what they have made. Every step may be done again."""

    def __init__(
        self,
        client: Broker,
        records: TaskRecords,
        artifacts: ArtifactStore,
        heads: LiveBatches,
        items: BatchItems,
        still_ours: Callable[[], bool],
    ) -> None:
        """``still_ours`` tells whether nobody else collects meanwhile, and keeps it so for a while."""
        self._still_ours = still_ours
        self._client = client
        self._records = records
        self._artifacts = artifacts
        self._heads = heads
        self._items = items
        self._speeds = ThroughputStats(client)

    def collect(
        self,
        head: LiveBatch,
        output: Callable[[], Output],
        engine_of: Callable[[str], str],
        *,
        take: Callable[[], bool],
    ) -> int:
        """Take in what has ended, where ``take`` says so; return how many items have a task that has not ended.

        ``engine_of`` tells what a worker's engine is called. Raises OutputUnavailable: nothing is lost then, the images
        wait for as long as they are kept.
        """
        numbers = self._items.in_hand(head.id)
        known = self._items.known(head.id, numbers)
        rows = self._rows([known[number].task_id for number in numbers])
        found = [(number, known[number], row) for number, row in zip(numbers, rows, strict=True)]
        ended = [one for one in found if not self._goes_on(head, *one)]
        if not ended or not take():
            return len(numbers) - len(ended)
        items = self._items.planned(head.id, [number for number, _, _ in ended])
        made = []
        for number, old, row in ended:
            image = self._image(old, row) if row.get("state") == "succeeded" else None
            if image is not None:
                made.append((items[number], old, row, *image))
            else:
                self._not_made(head, items[number], old, row, output)
        if made:
            self._keep(head, made, output(), engine_of)
        return len(numbers) - len(ended)

    def _rows(self, ids: list[str]) -> list[dict[str, str]]:
        with broker_errors(), self._client.pipeline(transaction=False) as pipe:
            for task_id in ids:
                pipe.hmget(keys.record_key(task_id), FIELDS)
            found = pipe.execute()
        return [{name: value.decode() for name, value in zip(FIELDS, row, strict=True) if value} for row in found]

    def _goes_on(self, head: LiveBatch, number: int, known: Known, row: Row) -> bool:
        """Tell whether a task has not ended; note whether it runs, and how often it was tried."""
        if row.get("state") not in ("queued", "running"):
            return False
        state = RUNNING if row["state"] == "running" else QUEUED
        if state != known.state or int(row["attempt"]) != known.seen:
            self._items.move(head.id, number, known, known.changed(state=state, seen=int(row["attempt"])))
        return True

    def _image(self, known: Known, row: Row) -> tuple[bytes, bytes] | None:
        """Return a finished task's image and its engine's answer; None where that is not kept any more."""
        try:
            found = self._artifacts.get(known.task_id, 0)
        except ArtifactBroken:
            found = None
        if found is None:
            return None
        last = self._records.events(known.task_id)[-1:]
        answer = last[0].answer()[1] if last and last[0].kind == events.RESULT else b""
        return found[1], answer

    def _keep(self, head: LiveBatch, made: list[Any], output: Output, engine_of: Callable[[str], str]) -> None:
        lines = []
        for item, old, row, data, answer in made:
            record = {**row, "task_id": old.task_id, "attempts": str(old.attempts + int(row["attempt"]))}
            line = manifest.line_of(item, data, record, answer, engine_of(row.get("worker", "")))
            if not self._still_ours():
                # A store was slow, and another took over: what it notes must not be written over.
                return
            # One that a kill has left behind is as good as a new one.
            if item.number not in output.lines or not output.is_good(line):
                output.write(line["file"], data)
            lines.append(line)
        if not self._still_ours():
            return
        output.note(lines)
        for (item, old, row, _, _), line in zip(made, lines, strict=True):
            new = old.changed(state=DONE, attempts=line["attempts"], seen=0, failures=0, error=None, line=line)
            if self._items.move(head.id, item.number, old, new):
                took_ms = int(line["seconds"] * 1000)
                self._heads.add(head.id, "gpu_ms", took_ms)
                self._speeds.learn(item.kind, row.get("worker", ""), item.work, took_ms)
                logger.info("batch item done", extra=_extra(head, item, new))
            self._forget(old.task_id)

    def _forget(self, task_id: str) -> None:
        """Make room where finished images lie: the file is there."""
        try:
            self._artifacts.delete(task_id)
        except ArtifactsUnavailable:
            # It goes with its lifetime.
            logger.warning("image not deleted", extra={"task_id": task_id})

    def _not_made(self, head: LiveBatch, item: Item, old: Known, row: Row, output: Callable[[], Output]) -> None:
        """Say what becomes of an item whose task has brought no image."""
        state = row.get("state", "")
        # One whose record is gone has been tried as often as was seen, and once at least.
        attempts = old.attempts + (int(row["attempt"]) if row else max(old.seen, 1))
        new = old.changed(state=WAITING, attempts=attempts, seen=0)
        if state == "failed":
            error = self._error(old.task_id, row)
            failures = old.failures + 1
            passing = error["type"] in PASSING and failures < MAX_FAILURES
            new = new.changed(state=WAITING if passing else FAILED, failures=failures, error=error)
        elif state in ("cancelled", "expired") and head.state in ("cancelled", "failed"):
            new = new.changed(state=CANCELLED)
        elif state in ("", "succeeded") and (line := self._written(output(), item, old)) is not None:
            new = new.changed(state=DONE, attempts=line["attempts"], line=line)
        if self._items.move(head.id, item.number, old, new):
            extra = _extra(head, item, new) | {"task_state": state or "gone"}
            logger.info("batch item not made", extra=extra)

    @staticmethod
    def _written(output: Output, item: Item, old: Known) -> dict[str, Any] | None:
        """Return the line of an item whose file is there: a kill came between its line and its state."""
        line = output.lines.get(item.number)
        return line if line and line.get("task_id") == old.task_id and output.is_good(line) else None

    def _error(self, task_id: str, row: Row) -> dict[str, Any]:
        """Return what a task failed with, as its owner reads it."""
        last = self._records.events(task_id)[-1:]
        try:
            found = json.loads(last[0].answer()[1]) if last else {}
        except ValueError:
            found = {}
        error = found.get("error") if isinstance(found, dict) else None
        if isinstance(error, dict):
            kind, message = str(error.get("type", "")), str(error.get("message", ""))
        else:
            # As the WebUI's engines write it; '' where nothing is kept.
            kind, message = ("engine_error", str(error or found)) if found else ("", "")
        return {"status": int(row.get("status") or 0), "type": kind, "message": message[:500]}


def _extra(head: LiveBatch, item: Item, known: Known) -> dict[str, Any]:
    return {"batch_id": head.id, "item": item.number, "state": known.state, "attempts": known.attempts}
