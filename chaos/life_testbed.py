"""What a task passes in graycat, in one process: the web application, the scripts, and the steps of workers.

Everything is real but the loop that Celery runs around a worker: here each step of it is taken by the caller, so that
a worker can stop between any two of them. Messages are taken, kept, given back and restored by graycat's transport.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from unittest.mock import patch

from flask.testing import FlaskClient

from graycat.auth.minted import Grant
from graycat.broker import keys
from graycat.celeryapp import create_celery
from graycat.queue.models import Attempt, ChunkBatch, Verdict
from graycat.queue.records import TaskRecords
from graycat.queue.redelivery import unacked_keys
from graycat.queue.stored import StoredBytes
from graycat.usage.amounts import add_up
from graycat.usage.counter import UsageCounter
from graycat.usage.reader import UsageReader
from graycat.web import create_app
from graycat.web.api import tasks
from graycat.web.api.task_requests import scoped_ids
from graycat.web.services import services_of
from graycat.worker.ended_tokens import DELAY_S, EndedTokens
from graycat.worker.sweeper import LOCKS, Sweeper
from tests.support.clocks import Clock
from tests.support.helpers import SECRET, Valkey, changed, eventually

#: The queues of the text family whose owners take turns, in the order of a worker's priorities.
QUEUES = ("llm", "llm.batch")
#: The owner with a token in the settings, and the one whose token is minted and may be revoked.
LASTING, MORTAL = "tests", "mortal"
#: So short that the sweeper finds everything old enough after a moment.
SWEEP_LEASE_S = 0.002
LEASE_S, MAX_ATTEMPTS = 60.0, 3
UNACKED = unacked_keys("llm")


@dataclass(eq=False)
class Delivery:
    """A message that a worker has taken, and how far its task is."""

    task_id: str
    message: Any
    attempt: Attempt | None = None
    chunks: int = 0
    #: Its task has ended or was handed back; the message is not acknowledged yet.
    done: str = ""


@dataclass
class WorkerProcess:
    """What one worker process holds."""

    name: str
    channel: Any
    deliveries: list[Delivery] = field(default_factory=list)


class Testbed:
    """One broker and what works on it. ``valkey`` is emptied by ``empty``."""

    def __init__(self, valkey: Valkey) -> None:
        self.client = valkey.client
        self.settings = changed(valkey.settings, lease_s=LEASE_S, max_attempts=MAX_ATTEMPTS)
        self._app = create_celery(self.settings, kind="llm")
        self._control = create_celery(self.settings, kind="control")
        self._flask = create_app(self.settings)
        self._hub = services_of(self._flask).gateway.hub
        self.records = TaskRecords(self.client, self.settings)
        self._connection = self._app.connection_for_read()
        self._names = count(1)
        # Nobody works while a caller waits here.
        self._patience = patch.object(tasks, "CANCEL_TIMEOUT_S", 0.0)
        self._patience.start()
        self.stored = StoredBytes(self.client)

    def empty(self) -> None:
        """Empty the broker, and begin anew with fresh owners."""
        self.client.flushall()
        number = next(self._names)
        self.mortal = f"{MORTAL}-{number}"
        secret, _ = services_of(self._flask).authenticator.minted.mint(Grant(self.mortal))
        self.web = {LASTING: self._web(SECRET), self.mortal: self._web(secret)}
        self.usage = UsageCounter(self.client, self.settings)
        self._clock = Clock()
        self._ended = EndedTokens(self.client, self.settings, self._control, self._clock)
        hasty = changed(self.settings, lease_s=SWEEP_LEASE_S)
        self._sweeper = Sweeper(self.client, hasty, self._control)

    def close(self) -> None:
        """End its threads and connections."""
        self._patience.stop()
        self._hub.stop()
        self._connection.close()
        self._app.close()
        self._control.close()

    def _web(self, secret: str) -> FlaskClient:
        client = self._flask.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {secret}"
        return client

    # What workers do.

    def new_worker(self, name: str) -> WorkerProcess:
        """Return a worker that holds nothing."""
        return WorkerProcess(name, self._connection.channel())

    def take(self, process: WorkerProcess, queues: Sequence[str] = QUEUES) -> Delivery | None:
        """Take the next message, by default as a worker does: interactive before batch; None if there is none."""
        for queue in queues:
            message = process.channel.basic_get(queue)
            if message is not None:
                delivery = Delivery(message.headers["id"], message)
                process.deliveries.append(delivery)
                return delivery
        return None

    def restore(self, process: WorkerProcess) -> None:
        """Put messages back whose workers do not renew them."""
        process.channel.qos.restore_visible(num=1000, interval=1)

    def let_lease_end(self, delivery: Delivery) -> None:
        """Have the time pass in which a worker that is gone or stopped has not renewed what it holds."""
        self.client.zadd(UNACKED["unacked_index_key"], {delivery.message.delivery_tag: 1}, xx=True)
        record = keys.record_key(delivery.task_id)
        number = delivery.attempt.number if delivery.attempt else 0
        if self.client.hmget(record, ("state", "attempt")) == [b"running", str(number).encode()]:
            self.client.hset(record, "lease_ms", 1)

    def let_queue_ttl_end(self, task_id: str) -> None:
        """Have the time pass for which a task may be queued."""
        self.client.hset(keys.record_key(task_id), "queue_deadline_ms", 1)

    def let_record_end(self, task_id: str) -> None:
        """Have the time pass for which the record and the events of an ended task are kept."""
        self.client.delete(keys.record_key(task_id), keys.events_key(task_id))

    def publish(self, attempt: Attempt, number: int, chunk: bytes) -> Verdict:
        """Publish one chunk; return what the attempt must do."""
        return self.records.publish_all([ChunkBatch(attempt, number, [chunk])])[0]

    def lose_message(self, queue: str) -> str:
        """Drop the next message of a queue; return whose it was, '' if there is none."""
        message = self.client.rpop(queue)
        return json.loads(message)["headers"]["id"] if message else ""

    # What the control worker does.

    def sweep(self) -> None:
        """Sweep, when all that was there a moment ago is old enough."""
        began = self._broker_ms()
        eventually(lambda: self._broker_ms() > began + 2 * SWEEP_LEASE_S * 1000 + 1)
        self.client.delete(*LOCKS.values())
        self._sweeper.sweep()

    def end_mortal(self) -> None:
        """Revoke the token of the mortal owner, and end what it has left."""
        services_of(self._flask).authenticator.minted.revoke(self.mortal)
        at = self.client.zscore(keys.TOKEN_ENDS, self.mortal)
        self._clock.now = float(at or 0) + DELAY_S
        self._ended.step()

    def _broker_ms(self) -> float:
        seconds, microseconds = self.client.time()
        return float(seconds * 1000 + microseconds / 1000)

    # What is in the broker.

    def read_usage(self, owner: str) -> dict[str, int]:
        """Return what an owner has used, as far as it is counted."""
        reader = UsageReader(self.client)
        return add_up(reader.read(*reader.choose_days(None, None), owner)).to_dict()

    def queued_ids(self, queue: str) -> list[str]:
        """Return whose messages a queue has."""
        return [json.loads(message)["headers"]["id"] for message in self.client.lrange(queue, 0, -1)]

    def has_message(self, task_id: str) -> bool:
        """Return whether a message of a task is in a queue or with a worker."""
        return task_id in [*self.unacked_ids(), *(name for queue in QUEUES for name in self.queued_ids(queue))]

    def count_parked(self, queue: str) -> int:
        """Return how many tasks wait for their turn to enter a queue."""
        return sum(self.client.llen(keys.parked_key(queue, owner)) for owner in self.web)

    def named_id(self, owner: str, name: str) -> str:
        """Return the id of the task that an owner has called so."""
        return scoped_ids(owner, name)["llm"]

    def unacked_ids(self) -> list[str]:
        """Return whose messages workers have taken and not acknowledged."""
        return [json.loads(entry)[0]["headers"]["id"] for entry in self.client.hvals(UNACKED["unacked_key"])]
