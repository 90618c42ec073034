"""Placing: an item of a batch becomes a task on the batch queue, once a try; one that waits there is taken back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from graycat.batches.items import BatchItems
from graycat.batches.live import LiveBatch, LiveBatches
from graycat.batches.plan import Item
from graycat.batches.states import QUEUED, WAITING
from graycat.errors import QueueFull
from graycat.fleet.catalogs import wanted_checkpoint, workers_with
from graycat.queue import ids
from graycat.queue.kinds import PLAIN
from graycat.queue.messages import MessageFactory
from graycat.queue.models import NewTask
from graycat.queue.records import TaskRecords
from graycat.queue.topology import BATCH_QUEUE_TTL_S, SD_BATCH, worker_queue
from graycat.settings import Settings


class BatchSubmitter:
    """Makes the tasks of items."""

    def __init__(
        self, settings: Settings, records: TaskRecords, messages: MessageFactory, heads: LiveBatches, items: BatchItems
    ) -> None:
        self._settings = settings
        #: What the engines have that take batch work now.
        self.catalogs: Mapping[str, Mapping[str, Any]] = {}
        self._records = records
        self._messages = messages
        self._heads = heads
        self._items = items

    def place_next(self, head: LiveBatch) -> bool:
        """Give a batch's next item a task; False where none waits, or the queue is full. Raises BrokerUnavailable."""
        numbers = self._items.numbers(head.id, WAITING, most=1)
        if not numbers:
            return False
        item, old = self._items.planned(head.id, numbers)[numbers[0]], self._items.known(head.id, numbers)[numbers[0]]
        task_id = task_id_of(head.id, item, old.tries)
        queue = self._queue(item)
        if not queue:
            self._heads.note(head.id, {"reason": f"no engine has the checkpoint that item {item.number} names"})
            return False
        try:
            self._records.create(self._task(head, item, task_id, queue), self._messages.make(item.kind, task_id, queue))
        except QueueFull:
            return False
        # Where the task was there already, a kill came before this.
        new = old.changed(state=QUEUED, tries=old.tries + 1, task_id=task_id, seen=0)
        if self._items.move(head.id, item.number, old, new):
            self._heads.had_turn(head.id)
        return True

    def _queue(self, item: Item) -> str:
        """Return the queue for an item: that of a worker, where only some have its checkpoint; '' where none has it."""
        checkpoint = wanted_checkpoint(item.request)
        if not checkpoint or not self.catalogs:
            return SD_BATCH
        having = workers_with(checkpoint, self.catalogs)
        if len(having) == len(self.catalogs):
            return SD_BATCH
        # Not always the same, or one engine would have all of it.
        return worker_queue(SD_BATCH, having[item.number % len(having)]) if having else ""

    def _task(self, head: LiveBatch, item: Item, task_id: str, queue: str) -> NewTask:
        return NewTask(
            id=task_id,
            kind=item.kind,
            mode=PLAIN,
            queue=queue,
            body=json.dumps(item.request).encode(),
            owner=head.owner,
            request_id=f"batch:{head.id}:{item.number}",
            queue_ttl_s=BATCH_QUEUE_TTL_S,
            exec_timeout_s=self._settings.sd_exec_timeout_s,
            shown={"priority": "batch", "batch": head.id},
            # A batch has limits of its own, and no WebUI client of its owner is to see or stop its renders.
            counted=False,
        )

    def withdraw(self, head: LiveBatch) -> None:
        """Take back what waits in the queue; what is rendered goes on."""
        for known in self._items.known(head.id, self._items.numbers(head.id, QUEUED)).values():
            self._records.withdraw(known.task_id)


def task_id_of(batch_id: str, item: Item, tries: int) -> str:
    """Return the id of an item's task: the same try is the same task, whoever makes it."""
    digest = sha256(f"{batch_id}/{item.number}/{tries}".encode()).hexdigest()
    return ids.task_id_for(item.kind, digest[: ids.CHARS])
