"""Collects finished tasks: an item whose task has ended becomes a file and a manifest entry, or is made again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from graycat.batches import manifest
from graycat.batches.items import BatchItems, ItemRecord
from graycat.batches.live import LiveBatch, LiveBatches
from graycat.batches.output import ManifestEntry, Output
from graycat.batches.plan import Item
from graycat.batches.states import CANCELLED, DONE, FAILED, QUEUED, RUNNING, WAITING
from graycat.batches.throughput import ThroughputStats
from graycat.broker import keys
from graycat.broker.client import broker_errors
from graycat.broker.protocol import Broker
from graycat.errors import BrokerUnavailable, EngineProtocolError
from graycat.images.replies import UNKNOWN, content_type
from graycat.loops.unexpected import guarded
from graycat.queue import events
from graycat.queue.failures import ENGINE_SILENT, read_error
from graycat.queue.records import TaskRecords
from graycat.storage.artifacts import ArtifactStore
from graycat.storage.errors import ArtifactBroken, ArtifactsUnavailable

logger = logging.getLogger(__name__)

#: Fields that are read of a task's record. The body may be large, so it is left out.
FIELDS = ("state", "attempt", "status", "worker", "submitted_ms", "claimed_ms", "finished_ms")
#: Types of errors that are not the item's own fault: the item is made again. '' stands for an unknown error.
TRANSIENT_ERRORS = frozenset(
    {
        *("task_lost", "engine_lost", "task_timeout", "artifacts_unavailable", "unavailable_error", "server_error"),
        *(ENGINE_SILENT, ""),
    }
)
#: An item fails after this many transient errors in a row.
MAX_FAILURES = 3

#: Fields of a task's record; empty if the record has expired.
TaskFields = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EndedItem:
    """An item whose task has ended."""

    number: int
    record: ItemRecord
    task: TaskFields


@dataclass(frozen=True, slots=True)
class FinishedImage:
    """The image of an item, and the engine's answer."""

    item: Item
    record: ItemRecord
    task: TaskFields
    data: bytes
    answer: bytes


class Collector:
    """Collects the images of a batch's finished tasks. Every step can be repeated after a kill."""

    def __init__(
        self,
        client: Broker,
        records: TaskRecords,
        artifacts: ArtifactStore,
        live_batches: LiveBatches,
        items: BatchItems,
        hold_lock: Callable[[], bool],
    ) -> None:
        """``hold_lock`` renews the runner's lock; it returns False if another process has it."""
        self._hold_lock = hold_lock
        self._client = client
        self._records = records
        self._artifacts = artifacts
        self._live_batches = live_batches
        self._items = items
        self._throughput = ThroughputStats(client)

    def collect(
        self,
        batch: LiveBatch,
        output: Callable[[], Output],
        engine_name: Callable[[str], str],
        *,
        may_collect: Callable[[], bool],
    ) -> int:
        """Collect what has ended, if ``may_collect`` allows it; return how many items have an unfinished task.

        ``engine_name`` returns the name of a worker's engine. Raises OutputUnavailable; nothing is lost then, because
        the images stay in the artifact store until their lifetime ends.
        """
        numbers = self._items.list_in_flight(batch.id)
        records = self._items.load_records(batch.id, numbers)
        tasks = self._load_tasks([records[number].task_id for number in numbers])
        ended = []
        for number, task in zip(numbers, tasks, strict=True):
            if not self._note_unfinished(batch, number, records[number], task):
                ended.append(EndedItem(number, records[number], task))
        if ended and may_collect():
            self._collect_ended(batch, ended, output, engine_name)
        return len(numbers) - len(ended)

    def _load_tasks(self, task_ids: Sequence[str]) -> list[dict[str, str]]:
        with broker_errors(), self._client.pipeline(transaction=False) as pipe:
            for task_id in task_ids:
                pipe.hmget(keys.record_key(task_id), FIELDS)
            rows = pipe.execute()

        tasks = []
        for row in rows:
            fields = zip(FIELDS, row, strict=True)
            tasks.append({name: value.decode() for name, value in fields if value})
        return tasks

    def _note_unfinished(self, batch: LiveBatch, number: int, record: ItemRecord, task: TaskFields) -> bool:
        """Return whether a task is unfinished; if so, note whether it runs, and its attempts."""
        if task.get("state") not in ("queued", "running"):
            return False
        state = RUNNING if task["state"] == "running" else QUEUED
        attempt = int(task["attempt"])
        if state != record.state or attempt != record.seen_attempts:
            self._items.move(batch.id, number, record, replace(record, state=state, seen_attempts=attempt))
        return True

    def _collect_ended(
        self,
        batch: LiveBatch,
        ended: Sequence[EndedItem],
        output: Callable[[], Output],
        engine_name: Callable[[str], str],
    ) -> None:
        plan = self._items.load_plan(batch.id, [item.number for item in ended])
        images = []
        for one in ended:
            image = None
            if one.task.get("state") == "succeeded":
                image = self._load_image(plan[one.number], one)
            if image is None:
                self._handle_missing_image(batch, plan[one.number], one, output)
            else:
                images.append(image)
        if images:
            self._save(batch, images, output(), engine_name)

    def _load_image(self, item: Item, ended: EndedItem) -> FinishedImage | None:
        """Return the image of a task that has succeeded; None if it is no longer stored, damaged, or none."""
        task_id = ended.record.task_id
        try:
            stored = self._artifacts.get(task_id, 0)
        except ArtifactBroken:
            return None
        if stored is None:
            return None
        _, data = stored
        if content_type(data) == UNKNOWN:
            # Batch folders hold images, and nothing else that a worker calls one.
            return None
        return FinishedImage(item, ended.record, ended.task, data, self._load_answer(task_id, events.RESULT))

    def _load_answer(self, task_id: str, kind: str | None = None) -> bytes:
        """Return the body of a task's last event; empty if there is none (of this kind)."""
        last = self._records.last_event(task_id)
        if last is None or (kind is not None and last.kind != kind):
            return b""
        with suppress(EngineProtocolError):
            return last.answer()[1]
        return b""

    def _save(
        self, batch: LiveBatch, images: Sequence[FinishedImage], output: Output, engine_name: Callable[[str], str]
    ) -> None:
        """Write images, then their manifest entries, then the items' states."""
        entries = []
        for image in images:
            attempts = image.record.attempts + int(image.task["attempt"])
            task = {**image.task, "task_id": image.record.task_id, "attempts": str(attempts)}
            engine = engine_name(image.task.get("worker", ""))
            entry = manifest.build_entry(image.item, image.data, task, image.answer, engine)
            if not self._hold_lock():
                # The store was slow, and another process took over. Its manifest must not be overwritten.
                return
            # A file that a killed runner has left is kept if it is intact.
            if image.item.number not in output.entries or not output.is_intact(entry):
                output.write(entry["file"], image.data)
            entries.append(entry)
        if not self._hold_lock():
            return

        output.add_entries(entries)
        for image, entry in zip(images, entries, strict=True):
            self._mark_done(batch, image, entry)

    def _mark_done(self, batch: LiveBatch, image: FinishedImage, entry: ManifestEntry) -> None:
        new = replace(
            image.record,
            state=DONE,
            attempts=entry["attempts"],
            seen_attempts=0,
            failures=0,
            error=None,
            entry=entry,
        )
        item = image.item
        if self._items.move(batch.id, item.number, image.record, new):
            took_ms = int(entry["seconds"] * 1000)
            self._live_batches.increment(batch.id, "gpu_ms", took_ms)
            with guarded("batch throughput", let_through=(BrokerUnavailable,)):
                self._throughput.record(item.kind, image.task.get("worker", ""), item.work, took_ms)
            logger.info("batch item done", extra=_log_fields(batch, item, new))
        self._delete_artifact(image.record.task_id)

    def _delete_artifact(self, task_id: str) -> None:
        """Delete a task's image from the artifact store: the batch's folder has it now."""
        try:
            self._artifacts.delete(task_id)
        except ArtifactsUnavailable:
            # It is deleted at the end of its lifetime.
            logger.warning("image not deleted", extra={"task_id": task_id})

    def _handle_missing_image(
        self, batch: LiveBatch, item: Item, ended: EndedItem, output: Callable[[], Output]
    ) -> None:
        """Decide the next state of an item whose task has ended without an image, and move it there."""
        old, task = ended.record, ended.task
        state = task.get("state", "")
        # If the task's record has expired, it had at least the attempts that were seen, and at least one.
        attempts = max(old.seen_attempts, 1)
        if task:
            attempts = int(task["attempt"])
        new = replace(old, state=WAITING, attempts=old.attempts + attempts, seen_attempts=0)

        if state == "failed":
            error = self._load_error(old.task_id, task)
            failures = old.failures + 1
            will_retry = error["type"] in TRANSIENT_ERRORS and failures < MAX_FAILURES
            new = replace(new, state=WAITING if will_retry else FAILED, failures=failures, error=error)
        elif state in ("cancelled", "expired") and batch.state in ("cancelled", "failed"):
            new = replace(new, state=CANCELLED)
        elif state in ("", "succeeded"):
            entry = _find_saved_entry(output(), item, old)
            if entry is not None:
                new = replace(new, state=DONE, attempts=entry["attempts"], entry=entry)

        if self._items.move(batch.id, item.number, old, new):
            extra = _log_fields(batch, item, new)
            extra["task_state"] = state or "gone"
            logger.info("batch item not made", extra=extra)

    def _load_error(self, task_id: str, task: TaskFields) -> dict[str, Any]:
        """Return what a task has failed with, as it is shown to its owner."""
        status = int(task.get("status") or 0)
        answer = self._load_answer(task_id)
        if not answer:
            return {"status": status, "type": "", "message": ""}
        error = read_error(status, answer)
        return {"status": status, "type": error["type"], "message": str(error["message"])[:500]}


def _find_saved_entry(output: Output, item: Item, record: ItemRecord) -> ManifestEntry | None:
    """Return the manifest entry of an item that was saved but not marked done: the runner was killed in between."""
    entry = output.entries.get(item.number)
    if entry and entry.get("task_id") == record.task_id and output.is_intact(entry):
        return entry
    return None


def _log_fields(batch: LiveBatch, item: Item, record: ItemRecord) -> dict[str, Any]:
    return {"batch_id": batch.id, "item": item.number, "state": record.state, "attempts": record.attempts}
