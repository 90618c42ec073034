"""Placing: an item of a batch becomes a task on the batch queue, once a try; one that waits there is taken back."""

from __future__ import annotations

import json
from hashlib import sha256

from graycat.batches.heads import Head, Heads
from graycat.batches.items import BatchItems
from graycat.batches.keys import QUEUED, WAITING
from graycat.batches.plan import Item
from graycat.errors import QueueFull
from graycat.records import NewTask, TaskRecords
from graycat.settings import Settings
from graycat.tasks.signatures import PLAIN, MessageFactory

QUEUE = "sd.batch"
#: Batch work waits for the gaps, so it waits long.
WAIT_S = 7 * 24 * 3600.0


class Placer:
    """Makes the tasks of items."""

    def __init__(
        self, settings: Settings, records: TaskRecords, messages: MessageFactory, heads: Heads, items: BatchItems
    ) -> None:
        self._settings = settings
        self._records = records
        self._messages = messages
        self._heads = heads
        self._items = items

    def place_next(self, head: Head) -> bool:
        """Give a batch's next item a task; False where none waits, or the queue is full. Raises BrokerUnavailable."""
        numbers = self._items.numbers(head.id, WAITING, most=1)
        if not numbers:
            return False
        item, old = self._items.planned(head.id, numbers)[numbers[0]], self._items.known(head.id, numbers)[numbers[0]]
        task_id = task_id_of(head.id, item.number, old.tries)
        try:
            self._records.create(self._task(head, item, task_id), self._messages.make(item.kind, task_id, QUEUE))
        except QueueFull:
            return False
        # Where the task was there already, a kill came before this.
        new = old.changed(state=QUEUED, tries=old.tries + 1, task_id=task_id, seen=0)
        if self._items.move(head.id, item.number, old, new):
            self._heads.had_turn(head.id)
        return True

    def _task(self, head: Head, item: Item, task_id: str) -> NewTask:
        return NewTask(
            id=task_id,
            kind=item.kind,
            mode=PLAIN,
            queue=QUEUE,
            body=json.dumps(item.request).encode(),
            owner=head.owner,
            request_id=f"batch:{head.id}:{item.number}",
            queue_ttl_s=WAIT_S,
            exec_timeout_s=self._settings.sd_exec_timeout_s,
            shown={"priority": "batch", "batch": head.id},
            listed=False,
        )

    def withdraw(self, head: Head) -> None:
        """Take back what waits in the queue; what is rendered goes on."""
        for known in self._items.known(head.id, self._items.numbers(head.id, QUEUED)).values():
            self._records.withdraw(known.task_id)


def task_id_of(batch_id: str, number: int, tries: int) -> str:
    """Return the id of an item's task: the same try is the same task, whoever makes it."""
    return sha256(f"{batch_id}/{number}/{tries}".encode()).hexdigest()[:32]
