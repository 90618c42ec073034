"""The sweeper: enqueues tasks again whose messages the broker has lost.

The messages of a worker that died are not lost: kombu puts them back on their queues after its visibility timeout
(``queue/redelivery.py``).

kombu can lose a message between taking it from the queue and noting that it did; a broker without its disk loses
all messages. A record is written with its message and outlives it. So a task whose record says queued or running, but
whose message is neither in a queue nor held by a worker, is enqueued again when its lease is over. Each worker sweeps
for its kind, and the control worker for all kinds. A lock for each kind lets one worker at a time sweep.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from graycat.bounds.stored import parse_json
from graycat.broker import keys
from graycat.broker.client import broker_errors, now_ms
from graycat.broker.protocol import Broker
from graycat.broker.quarantine import Quarantine
from graycat.celeryapp import GraycatCelery
from graycat.errors import BrokerUnavailable
from graycat.loops.unexpected import guarded
from graycat.metrics import worker
from graycat.queue import ids, topology
from graycat.queue.kinds import KINDS, UNKNOWN_KIND
from graycat.queue.messages import MessageFactory
from graycat.queue.records import TaskRecords
from graycat.queue.redelivery import unacked_keys
from graycat.queue.topology import CONTROL
from graycat.settings import Settings

logger = logging.getLogger(__name__)

#: The key of the lock for each kind of worker.
LOCKS = {kind: keys.sweeper_lock_key(kind) for kind in topology.WORKER_KINDS}
#: The fields of a record that the sweeper reads. A record has ``message`` only while the task is parked.
FIELDS = ("state", "queue", "kind", "mode", "lease_ms", "enqueued_ms", "queue_deadline_ms", "message")
#: What every unfinished task has, and what of it is a number.
REQUIRED_FIELDS = frozenset({"state", "queue", "kind", "mode", "enqueued_ms", "queue_deadline_ms"})
NUMBER_FIELDS = ("lease_ms", "enqueued_ms", "queue_deadline_ms")
UNFINISHED_STATES = ("queued", "running")
#: A message whose lease is over is back in its queue within so many seconds, if any worker restores it.
RESTORE_TIMEOUT_S = 2.0
#: Within so many seconds a worker has noted that it has taken a message. Until then it looks as if it were lost.
IN_FLIGHT_S = 0.25
#: The most tasks that one sweep looks at.
MAX_TASKS = 1000

Record = dict[str, str]


class Sweeper:
    """Finds lost tasks and enqueues them again."""

    def __init__(self, client: Broker, settings: Settings, app: GraycatCelery) -> None:
        self._client = client
        self._records = TaskRecords(client, settings)
        self._lease_ms = settings.lease_s * 1000
        self._messages = MessageFactory(app)
        self._for_all_kinds = app.kind in ("", CONTROL)
        self._kinds = tuple(LOCKS) if self._for_all_kinds else (app.kind,)
        #: Where the next sweep begins among the unfinished tasks of each family.
        self._offsets: dict[str, int] = {}
        for kind in self._kinds:
            family = topology.WORKER_KINDS[kind].family
            if family is not None:
                self._offsets[family.name] = 0
        self._quarantine = Quarantine(client, keys.share_of_worker(app.kind))

    def sweep(self) -> int:
        """Enqueue lost tasks again, and expire those past their queue deadline; return how many were enqueued."""
        with broker_errors():
            kinds = self._lock_kinds()
            if not kinds:
                return 0
            # The broker's clock, as in the records: a worker's own clock may be wrong.
            broker_ms = now_ms(self._client)
            records = self._read_records(broker_ms - self._lease_ms, kinds)
            queues = {record["queue"] for record in records.values() if record}
            lost = self._find_lost(records, self._list_held(kinds, queues), broker_ms)
            enqueued = 0
            if lost:
                # A worker may have taken a message and not noted that yet.
                time.sleep(IN_FLIGHT_S)
                enqueued = self._enqueue_lost(lost, self._list_held(kinds, queues), broker_ms)
            own_queues: list[str] = []
            for kind in kinds:
                own_queues += topology.WORKER_KINDS[kind].queues
            return enqueued + self._records.repair_turns(own_queues)

    def _lock_kinds(self) -> list[str]:
        """Return the kinds that are this sweeper's now; their locks expire before the next sweep is due."""
        lock_ms = int(self._lease_ms * 0.9)
        return [kind for kind in self._kinds if self._client.set(LOCKS[kind], "1", nx=True, px=lock_ms)]

    def _read_records(self, submitted_before_ms: float, kinds: Sequence[str]) -> dict[str, Record]:
        """Return the records of unfinished tasks, the next after those of the last sweep; a lost record is empty."""
        task_ids: list[str] = []
        for family in self._offsets:
            task_ids += self._list_ids(family, submitted_before_ms)
        with self._client.pipeline(transaction=False) as pipe:
            for task_id in task_ids:
                pipe.hmget(keys.record_key(task_id), FIELDS)
            rows = pipe.execute(raise_on_error=False)

        records = {}
        for task_id, row in zip(task_ids, rows, strict=True):
            # Another program may have written it. It must not keep the others from being looked at.
            with self._guard(task_id), broker_errors():
                record = _parse_record(row)
                if not record or topology.worker_kind_of(record["queue"]) in kinds:
                    records[task_id] = record
        return records

    def _list_ids(self, family: str, submitted_before_ms: float) -> list[str]:
        """Return the next ids of a family's unfinished tasks."""
        offset = self._offsets[family]
        key = keys.live_key(family)
        names = self._client.zrange(key, 0, submitted_before_ms, byscore=True, offset=offset, num=MAX_TASKS)
        self._offsets[family] = 0
        if len(names) == MAX_TASKS:
            self._offsets[family] = offset + MAX_TASKS
        task_ids: list[str] = []
        for name in names:
            with self._guard(name, family):
                task_id = name.decode()
                if ids.family_of(task_id).name != family:
                    raise ValueError("a task of another family")
                task_ids.append(task_id)
        return task_ids

    def _guard(self, task_id: str | bytes, family: str = "") -> AbstractContextManager[None]:
        """Run a block that works on one task; if it raises, the task is set aside and the others go on."""
        return guarded(
            "sweeper",
            let_through=(BrokerUnavailable,),
            set_aside=lambda reason: self._set_aside(task_id, reason, family),
        )

    def _set_aside(self, task_id: str | bytes, reason: str, family: str) -> None:
        """Take a task that cannot be used off the unfinished ones; its id goes into the quarantine."""
        if isinstance(task_id, str):
            family = family or ids.family_of(task_id).name
            task_id = task_id.encode()
        with broker_errors():
            self._client.zrem(keys.live_key(family), task_id)
        self._quarantine.put("sweeper", task_id, reason)

    def _list_held(self, kinds: Sequence[str], queues: set[str]) -> set[str]:
        """Return the ids of the tasks whose message is in one of the queues, or held by a worker."""
        if not queues:
            return set()
        messages: list[bytes] = []
        for queue in queues:
            # A key of another type, which a worker that takes from it moves aside.
            with guarded("sweeper", let_through=(BrokerUnavailable,)), broker_errors():
                messages += self._client.lrange(queue, 0, -1)
        for kind in kinds:
            messages += self._list_unacked(kind)
        if self._for_all_kinds:
            messages += self._list_taken_by_hand()
        return set(map(_parse_task_id, messages)) - {""}

    def _list_unacked(self, kind: str) -> list[bytes]:
        return self._client.hvals(unacked_keys(kind)["unacked_key"])

    def _list_taken_by_hand(self) -> list[bytes]:
        """Return the messages that a worker without a kind holds, or that an operator has taken (``amqp basic.get``).

        Nobody renews or restores what an operator has taken. After a while it is as lost as any other message.
        """
        names = unacked_keys("")
        entries = self._client.hgetall(names["unacked_key"])
        if not entries:
            return []
        since = time.time() - self._lease_ms / 1000 - RESTORE_TIMEOUT_S
        tags = self._client.zrange(names["unacked_index_key"], since, "+inf", byscore=True)
        return [entries[tag] for tag in tags if tag in entries]

    def _find_lost(self, records: dict[str, Record], held: set[str], broker_ms: float) -> list[str]:
        """Return the ids of the tasks whose message nobody has; expire the others if that is due."""
        lost: list[str] = []
        for task_id, record in records.items():
            with self._guard(task_id), broker_errors():
                if self._is_lost(task_id, record, held, broker_ms):
                    lost.append(task_id)
        return lost

    def _enqueue_lost(self, task_ids: Sequence[str], held: set[str], broker_ms: float) -> int:
        """Enqueue those tasks again that are lost still; return how many."""
        enqueued = 0
        for task_id in task_ids:
            with self._guard(task_id), broker_errors():
                record = _parse_record(self._client.hmget(keys.record_key(task_id), FIELDS))
                if self._is_lost(task_id, record, held, broker_ms):
                    self._enqueue(task_id, record)
                    enqueued += 1
        return enqueued

    def _is_lost(self, task_id: str, record: Record, held: set[str], broker_ms: float) -> bool:
        """Return whether nobody has a task's message. Expire the task if that is due; forget it if it has ended."""
        if not record or record["state"] not in UNFINISHED_STATES:
            # It has expired, or a process of an earlier release has ended it.
            self._client.zrem(keys.live_key(ids.family_of(task_id).name), task_id)
            return False
        if record["state"] == "queued" and self._records.expire(task_id):
            worker.count_refusal(_kind_label(record), "expired")
            return False
        if "message" in record:
            # It is parked until it is its owner's turn.
            return False

        lost_since_ms = float(record["enqueued_ms"]) + self._lease_ms
        if "lease_ms" in record:
            # Its message's lease has ended with its own: just now it may be on its way back to its queue.
            lost_since_ms = float(record["lease_ms"]) + RESTORE_TIMEOUT_S * 1000
        return task_id not in held and broker_ms >= lost_since_ms

    def _enqueue(self, task_id: str, record: Record) -> None:
        """Put a lost task's message on its queue again."""
        self._client.lpush(record["queue"], self._messages.make(record["kind"], task_id, record["queue"]))
        worker.SWEPT.labels(_kind_label(record)).inc()
        logger.warning("lost task enqueued again", extra={"task_id": task_id, "kind": record["kind"]})


def _parse_record(row: Any) -> Record:
    """Return the fields of a record, none if it is gone. Raises the broker's error, ValueError if it is none."""
    if isinstance(row, Exception):
        raise row
    record = {name: value.decode() for name, value in zip(FIELDS, row, strict=True) if value is not None}
    if not record:
        return record
    numbers = [record[name] for name in NUMBER_FIELDS if name in record]
    if record.keys() >= REQUIRED_FIELDS and all(map(str.isdecimal, numbers)):
        return record
    raise ValueError("no record")


def _kind_label(record: Record) -> str:
    """Return a task's kind as metrics show it: what newer releases call theirs would be too many labels."""
    if record["kind"] in KINDS:
        return record["kind"]
    return UNKNOWN_KIND


def _parse_task_id(message: bytes) -> str:
    """Return the task's id of a message in a queue, or of an unacknowledged entry; '' if it has none.

    An unacknowledged entry is a list of the message and its route.
    """
    try:
        parsed = parse_json(message)
        if isinstance(parsed, list):
            parsed = parsed[0]
        return str(parsed["headers"]["id"])
    except (ValueError, KeyError, IndexError, TypeError):
        return ""
