"""Ends batches: decides when a batch has ended, and does what is left to do then."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from celery import Celery

from graycat.batches.gallery.export import Exporter
from graycat.batches.items import CHUNK_ITEMS, BatchItems
from graycat.batches.live import LiveBatch, LiveBatches
from graycat.batches.output import ManifestEntry, Output
from graycat.batches.states import CANCELLED, DONE, FAILED, QUEUED, RUNNING, UNFINISHED_ITEM_STATES, WAITING, part_keys
from graycat.broker.client import broker_errors
from graycat.broker.keys import LIVE_BATCHES, batch_key
from graycat.broker.protocol import Broker
from graycat.broker.scripts import Scripts
from graycat.queue.control import broadcast_stop
from graycat.queue.models import Verdict
from graycat.queue.records import TaskRecords
from graycat.settings import Settings

logger = logging.getLogger(__name__)


class BatchFinisher:
    """Ends batches."""

    def __init__(
        self,
        client: Broker,
        settings: Settings,
        app: Celery,
        records: TaskRecords,
        live_batches: LiveBatches,
        items: BatchItems,
    ) -> None:
        self._client = client
        self._ttl_ms = int(settings.batch_ttl_s * 1000)
        self._app = app
        self._records = records
        self._live_batches = live_batches
        self._items = items
        self._exporter = Exporter(client, settings)
        self._scripts = Scripts(client, Path(__file__).parents[1] / "lua", ("end",))

    @staticmethod
    def is_past_deadline(batch: LiveBatch, now_ms: int) -> bool:
        """Return whether a batch's deadline has passed."""
        return batch.deadline_ms is not None and now_ms >= batch.deadline_ms

    @staticmethod
    def decide_end(batch: LiveBatch, counts: Mapping[str, int]) -> tuple[str, str]:
        """Return the state in which a running batch has ended, and the reason; two '' if it has not ended."""
        failed, max_failures = counts[FAILED], batch.options.max_failures
        if max_failures is not None and failed > max_failures:
            return "failed", f"{failed} items failed; max_failures is {max_failures}"
        if any(counts[state] for state in UNFINISHED_ITEM_STATES):
            return "", ""
        if failed > (max_failures or 0):
            return "failed", f"{failed} items failed"
        return "succeeded", ""

    def step(self, batch: LiveBatch, in_flight: int, output: Callable[[], Output]) -> None:
        """Do the next thing that is left for a batch that has ended; the last one removes it from the live batches.

        ``in_flight``: how many of its items have an unfinished task. A step can be repeated after a kill.
        """
        if in_flight:
            self._stop_running_tasks(batch)
            return
        if self._items.list_numbers(batch.id, QUEUED, RUNNING, limit=1):
            return
        if self._items.move_all(batch.id, (WAITING,), CANCELLED):
            return
        if batch.folder and batch.planned:
            if not self._exporter.step(batch.id, output):
                return
            entries = self._load_entries(batch)
            if entries:
                output().rewrite_manifest(entries)
        if batch.folder:
            self._live_batches.release_folder(batch)
        self.close(batch)

    def _stop_running_tasks(self, batch: LiveBatch) -> None:
        running = self._items.list_numbers(batch.id, RUNNING)
        for record in self._items.load_records(batch.id, running).values():
            state, worker = self._records.cancel(record.task_id)
            if state == "running":
                broadcast_stop(self._app, record.task_id, worker, Verdict.CANCEL)

    def _load_entries(self, batch: LiveBatch) -> list[ManifestEntry]:
        """Return the manifest entries of all items that are done."""
        entries: list[ManifestEntry] = []
        for start in range(1, batch.total + 1, CHUNK_ITEMS):
            numbers = range(start, min(start + CHUNK_ITEMS, batch.total + 1))
            for record in self._items.load_records(batch.id, numbers).values():
                if record.state == DONE and record.entry is not None:
                    entries.append(record.entry)
        return entries

    def close(self, batch: LiveBatch) -> None:
        """Remove a batch from the live batches, let its keys expire, and enqueue its webhook's delivery."""
        names = [batch_key(batch.id), LIVE_BATCHES, *part_keys(batch.id)]
        counts = self._items.count_by_state(batch.id)
        delivery: dict[str, str | int] = {
            "owner": batch.owner,
            "kind": "batch",
            "submitted_ms": batch.submitted_ms,
            "started_ms": batch.started_ms or "",
            "finished_ms": batch.finished_ms or "",
            "task_state": batch.state,
            "progress": json.dumps(counts),
            "name": batch.name,
        }
        arguments: list[str | int] = [batch.id, self._ttl_ms, batch.state]
        for field, value in delivery.items():
            arguments += (field, value)

        with broker_errors():
            ended = self._scripts.run("end", names, arguments)
        if ended:
            extra = {
                "batch_id": batch.id,
                "owner": batch.owner,
                "state": batch.state,
                "done": counts[DONE],
                "failed": counts[FAILED],
            }
            logger.info("batch ended", extra=extra)
