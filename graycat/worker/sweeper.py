"""The sweeper: puts tasks on their queue again that the records know and the broker has lost.

kombu can lose a message between taking it from the queue and noting that it did; a broker without its disk loses
them all. Records are written with the message and outlive it, so what is queued or running by its record, and
neither queued, held nor leased, is enqueued again. Every worker sweeps for its kind, the control worker for all; a lock
a kind lets one at a time.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

from graycat.broker import keys
from graycat.broker.client import broker_errors, now_ms
from graycat.broker.protocol import Broker
from graycat.celeryapp import GraycatCelery
from graycat.metrics import worker
from graycat.queue import ids, topology
from graycat.queue.messages import MessageFactory
from graycat.queue.records import TaskRecords
from graycat.queue.topology import CONTROL
from graycat.settings import Settings

logger = logging.getLogger(__name__)

#: Held by who sweeps for a kind of worker.
LOCKS = {kind: f"{keys.PREFIX}sweeping:{kind}" for kind in topology.WORKER_KINDS}
#: What it needs to know of a task; ``message`` where that waits aside.
FIELDS = ("state", "queue", "kind", "lease_ms", "enqueued_ms", "message")
#: Most tasks that one sweep looks at.
SWEEP_LIMIT = 1000


class Sweeper:
    """Finds lost tasks and enqueues them again."""

    def __init__(self, client: Broker, settings: Settings, app: GraycatCelery) -> None:
        self._client = client
        self._records = TaskRecords(client, settings)
        self._lease_s = settings.lease_s
        self._messages = MessageFactory(app)
        kind = app.kind
        self._kinds = tuple(LOCKS) if kind in ("", CONTROL) else (kind,)
        self._offset = 0

    def sweep(self) -> int:
        """Enqueue lost tasks again, and expire those past their queue deadline; return how many were enqueued."""
        with broker_errors():
            lock_ms = int(self._lease_s * 900)
            kinds = [kind for kind in self._kinds if self._client.set(LOCKS[kind], "1", nx=True, px=lock_ms)]
            if not kinds:
                return 0
            # The broker's clock, as in the records: a worker's own may be wrong.
            broker_ms = now_ms(self._client)
            old = broker_ms - self._lease_s * 1000
            records = self._next(old, kinds)
            held = self._held(kinds, {record["queue"] for record in records.values() if record})
            enqueued = sum(self._look_after(task_id, record, held, broker_ms) for task_id, record in records.items())
            return enqueued + self._records.unstick(
                queue for kind in kinds for queue in topology.WORKER_KINDS[kind].queues
            )

    def _next(self, old: float, kinds: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return as many unfinished tasks as one sweep looks at, behind those of the last sweep; some may be gone."""
        names = self._client.zrange(keys.LIVE_TASKS, 0, old, byscore=True, offset=self._offset, num=SWEEP_LIMIT)
        self._offset = self._offset + SWEEP_LIMIT if len(names) == SWEEP_LIMIT else 0
        if len(self._kinds) == 1:
            # The records of others it may not even look at.
            queue = topology.WORKER_KINDS[kinds[0]].queues[0]
            names = [name for name in names if ids.is_id_for(name.decode(), queue)]
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hmget(keys.record_key(name.decode()), FIELDS)
            rows = pipe.execute()
        records = [
            {field: value.decode() for field, value in zip(FIELDS, row, strict=True) if value is not None}
            for row in rows
        ]
        found = zip((name.decode() for name in names), records, strict=True)
        return {
            name: record for name, record in found if not record or topology.worker_kind_of(record["queue"]) in kinds
        }

    def _held(self, kinds: Sequence[str], queues: set[str]) -> set[str]:
        """Return the ids that some queue or worker holds a message of."""
        if not queues:
            return set()
        # What a worker of any queues holds is in a place without a kind, where only one that sweeps for all looks.
        places = (*kinds, *([""] if len(self._kinds) > 1 else []))
        raw = [item for kind in places for item in self._client.hvals(topology.unacked(kind)["unacked_key"])]
        for queue in queues:
            raw += self._client.lrange(queue, 0, -1)
        return {task_id for item in raw if (task_id := _task_id(item))}

    def _look_after(self, task_id: str, record: dict[str, str], held: set[str], broker_ms: float) -> bool:
        if not record:
            self._client.zrem(keys.LIVE_TASKS, task_id)
            return False
        if record["state"] == "queued" and self._records.expire(task_id):
            worker.refused(record["kind"], "expired")
            return False
        if "message" in record:
            # It waits aside, for its owner's turn.
            return False
        lost_since = float(record.get("lease_ms", 0)) or float(record["enqueued_ms"]) + self._lease_s * 1000
        if task_id in held or broker_ms < lost_since:
            return False
        self._client.lpush(record["queue"], self._messages.make(record["kind"], task_id, record["queue"]))
        worker.SWEPT.labels(record["kind"]).inc()
        logger.warning("lost task enqueued again", extra={"task_id": task_id, "kind": record["kind"]})
        return True


def _task_id(item: bytes) -> str:
    """Return whose message lies in a queue, or (in a list with its route) among the unacknowledged; '' if nobody's."""
    try:
        message = json.loads(item)
        message = message[0] if isinstance(message, list) else message
        return str(message["headers"]["id"])
    except (ValueError, KeyError, IndexError, TypeError):
        return ""
