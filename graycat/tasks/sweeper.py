"""The sweeper: puts tasks on their queue again that the records know and the broker has lost.

kombu can lose a message between taking it from the queue and noting that it did; a broker without its disk loses
them all. Records are written with the message and outlive it, so what is queued or running by its record, and
neither queued, held nor leased, is enqueued again. Any worker may sweep; a lock lets one at a time.
"""

from __future__ import annotations

import json
import logging
import time

from celery import Celery

from graycat import store
from graycat.records import TaskRecords
from graycat.settings import Settings
from graycat.tasks.signatures import MessageFactory

logger = logging.getLogger(__name__)

LOCK = store.PREFIX + "sweeping"
#: Where kombu keeps unacknowledged messages, by delivery tag.
UNACKED = "unacked"
#: Most tasks that one sweep looks at.
SWEEP_LIMIT = 1000


class Sweeper:
    """Finds lost tasks and enqueues them again."""

    def __init__(self, client: store.Broker, settings: Settings, app: Celery) -> None:
        self._client = client
        self._records = TaskRecords(client, settings)
        self._lease_s = settings.lease_s
        self._messages = MessageFactory(app)

    def sweep(self) -> int:
        """Enqueue lost tasks again, and expire those past their queue deadline; return how many were enqueued."""
        with store.broker_errors():
            if not self._client.set(LOCK, "1", nx=True, px=int(self._lease_s * 900)):
                return 0
            old = (time.time() - self._lease_s) * 1000
            names = self._client.zrange(store.LIVE_TASKS, 0, old, byscore=True, offset=0, num=SWEEP_LIMIT)
            return sum(self._look_after(name.decode(), held) for held in [self._held(names)] for name in names)

    def _held(self, names: list[bytes]) -> set[str]:
        """Return the ids that some queue or worker holds a message of."""
        if not names:
            return set()
        raw = list(self._client.hvals(UNACKED))
        messages = [json.loads(item)[0] for item in raw]
        for queue in {record["queue"] for name in names if (record := self._records.get(name.decode()))}:
            messages += [json.loads(item) for item in self._client.lrange(queue, 0, -1)]
        return {message["headers"]["id"] for message in messages}

    def _look_after(self, task_id: str, held: set[str]) -> bool:
        record = self._records.get(task_id)
        if not record:
            self._client.zrem(store.LIVE_TASKS, task_id)
            return False
        now_ms = time.time() * 1000
        if record["state"] == "queued" and self._records.expire(task_id):
            return False
        lost_since = float(record.get("lease_ms", 0)) or float(record["enqueued_ms"]) + self._lease_s * 1000
        if task_id in held or now_ms < lost_since:
            return False
        self._client.lpush(record["queue"], self._messages.make(record["kind"], task_id))
        logger.warning("lost task enqueued again", extra={"task_id": task_id, "kind": record["kind"]})
        return True
