"""Submits items of batches as tasks on the batch queue, and withdraws those that still wait there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

from graycat.batches.items import BatchItems
from graycat.batches.live import LiveBatch, LiveBatches
from graycat.batches.plan import Item
from graycat.batches.states import QUEUED, WAITING
from graycat.errors import BrokerFull, QueueFull, RequestError
from graycat.fleet.catalogs import workers_for
from graycat.images.prompt_controls import check_styles
from graycat.queue import ids
from graycat.queue.kinds import PLAIN
from graycat.queue.messages import MessageFactory
from graycat.queue.models import NewTask
from graycat.queue.records import TaskRecords
from graycat.queue.topology import BATCH_QUEUE_TTL_S, SD_BATCH, worker_queue
from graycat.settings import Settings


class BatchSubmitter:
    """Creates the tasks of items."""

    def __init__(
        self,
        settings: Settings,
        records: TaskRecords,
        messages: MessageFactory,
        live_batches: LiveBatches,
        items: BatchItems,
    ) -> None:
        self._settings = settings
        #: The models of each worker that takes batch work now; the runner updates it at every step.
        self.catalogs: Mapping[str, Mapping[str, Any]] = {}
        self._records = records
        self._messages = messages
        self._live_batches = live_batches
        self._items = items

    def submit_next(self, batch: LiveBatch) -> bool:
        """Submit a batch's next item. Return False if none waits, or it has no room. Raises BrokerUnavailable."""
        numbers = self._items.list_numbers(batch.id, WAITING, limit=1)
        if not numbers:
            return False
        number = numbers[0]
        item = self._items.load_plan(batch.id, numbers)[number]
        old = self._items.load_records(batch.id, numbers)[number]

        task_id = item_task_id(batch.id, item, old.tries)
        try:
            queue = self._choose_queue(item)
        except RequestError as error:
            # It waits: a worker whose engine has that may come back.
            self._live_batches.update_fields(batch.id, {"reason": f"item {number} waits: {error}"})
            return False
        try:
            # If a runner was killed right after this, the task exists already; creating it again changes nothing.
            task = self._build_task(batch, item, task_id, queue)
            self._records.create(task, self._messages.make(item.kind, task_id, queue))
        except (QueueFull, BrokerFull):
            return False

        new = replace(old, state=QUEUED, tries=old.tries + 1, task_id=task_id, seen_attempts=0)
        if self._items.move(batch.id, number, old, new):
            self._live_batches.move_to_back(batch.id)
        return True

    def withdraw(self, batch: LiveBatch) -> None:
        """Withdraw a batch's tasks that wait in the queue. Running tasks go on."""
        queued = self._items.list_numbers(batch.id, QUEUED)
        for record in self._items.load_records(batch.id, queued).values():
            self._records.cancel_queued(record.task_id)

    def _choose_queue(self, item: Item) -> str:
        """Return the queue for an item: a worker's own if only some have what it names. Raises RequestError."""
        if item.request.get("styles"):
            # An engine's list may have changed since the batch, or its schedule, was accepted.
            check_styles(item.request, [catalog.get("prompt-styles") for catalog in self.catalogs.values()])
        workers = workers_for(item.request, self.catalogs)
        if len(workers) == len(self.catalogs):
            return SD_BATCH
        # Take the workers in turn, or one engine would get all of these items.
        return worker_queue(SD_BATCH, workers[item.number % len(workers)])

    def _build_task(self, batch: LiveBatch, item: Item, task_id: str, queue: str) -> NewTask:
        return NewTask(
            id=task_id,
            kind=item.kind,
            mode=PLAIN,
            queue=queue,
            body=json.dumps(item.request).encode(),
            owner=batch.owner,
            request_id=f"batch:{batch.id}:{item.number}",
            queue_ttl_s=BATCH_QUEUE_TTL_S,
            exec_timeout_s=self._settings.sd_exec_timeout_s,
            shown={"priority": "batch", "batch": batch.id},
            # Batches have limits of their own, and their renders are hidden from the owner's WebUI clients.
            counted=False,
        )


def item_task_id(batch_id: str, item: Item, tries: int) -> str:
    """Return the id of an item's task. Every process computes the same id for the same try."""
    digest = sha256(f"{batch_id}/{item.number}/{tries}".encode()).hexdigest()
    return ids.task_id_for(item.kind, digest[: ids.CHARS])
