"""The publisher: sends a worker's chunks to the broker, and reads the replies when several have come.

A thread that waits for each reply wakes twice for each token, on a core that its engine needs (docs/decisions/0015).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import hiredis
import redis

from graycat.broker.connections import RawConnection
from graycat.broker.protocol import Broker
from graycat.loops.unexpected import note
from graycat.queue.models import ChunkBatch, Verdict
from graycat.queue.records import TaskRecords

#: Replies that may lie unread in the connection. Read together, they cost as much as one.
MAX_UNREAD_REPLIES = 8
#: Seconds until a reply is given up, and its batch sent again.
REPLY_TIMEOUT_S = 2.0

#: What the broker replied to batches.
BatchVerdicts = list[tuple[ChunkBatch, Verdict]]


class Publisher:
    """Publishes batches over a connection of its own; only one thread may use it.

    A batch is *pending* from when it was sent until its verdict was read.
    """

    def __init__(self, client: Broker, records: TaskRecords) -> None:
        self._client = client
        self._records = records
        self._connection: RawConnection | None = None
        self._pending: deque[ChunkBatch] = deque()
        #: Verdicts that were read and not returned yet.
        self._verdicts: BatchVerdicts = []
        #: Batches that the broker refuses, and why.
        self._refused: list[tuple[ChunkBatch, Exception]] = []

    @property
    def has_pending(self) -> bool:
        """Return whether a batch has no verdict yet."""
        return bool(self._pending)

    def publish(self, batches: Sequence[ChunkBatch]) -> BatchVerdicts:
        """Send batches. Return verdicts on earlier ones, if it is time to read them. Raises BrokerUnavailable."""
        self._pending += batches
        try:
            connection = self._connect()
            connection.send_nowait([self._records.publish_command(batch) for batch in batches])
            if len(self._pending) > MAX_UNREAD_REPLIES:
                self._match_replies(connection.read_nowait())
        except (OSError, redis.RedisError):
            self._resend_pending()
        return self._pop_verdicts()

    def flush(self) -> BatchVerdicts:
        """Wait for the verdicts on all pending batches, and return them. Raises BrokerUnavailable."""
        deadline = time.monotonic() + REPLY_TIMEOUT_S
        try:
            while self._pending:
                connection = self._connect()
                self._match_replies(connection.read_some(deadline - time.monotonic()))
        except (OSError, redis.RedisError):
            self._resend_pending()
        return self._pop_verdicts()

    def discard_pending(self) -> list[ChunkBatch]:
        """Give the pending batches up, and return them."""
        discarded = list(self._pending)
        self._pending.clear()
        # Replies to them may be under way. They would be taken for the replies to the next batches.
        self._disconnect()
        return discarded

    def pop_refused(self) -> list[tuple[ChunkBatch, Exception]]:
        """Return the batches that the broker has refused since the last call, because another program wrote there."""
        refused = self._refused
        self._refused = []
        return refused

    def _connect(self) -> RawConnection:
        """Return the connection; open it if there is none."""
        if self._connection is None:
            self._connection = RawConnection(self._client)
            self._connection.socket.setblocking(False)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _match_replies(self, replies: Sequence[Any]) -> None:
        """Note replies as the verdicts on the oldest pending batches: replies come in the order of the commands."""
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise redis.ResponseError(str(reply))
            self._verdicts.append((self._pending.popleft(), Verdict(reply.decode())))

    def _resend_pending(self) -> None:
        """Publish the pending batches again, with the retries of the records' client.

        The broker does not write a batch twice that arrived the first time. Raises BrokerUnavailable.
        """
        self._disconnect()
        batches = tuple(self._pending)
        try:
            verdicts = self._records.publish_all(batches, _list_oldest(batches))
        except redis.ResponseError:
            self._resend_one_by_one()
            return
        self._verdicts += zip(self.discard_pending(), verdicts, strict=True)

    def _resend_one_by_one(self) -> None:
        """Publish the pending batches again, so that one that is refused does not take the others with it."""
        refused: set[tuple[str, int]] = set()
        while self._pending:
            batch = self._pending[0]
            key = _key_of(batch)
            try:
                (verdict,) = self._records.publish_all((batch,), _list_oldest((batch,), refused))
                self._verdicts.append((batch, verdict))
            except redis.ResponseError as error:
                note("publisher", error)
                refused.add(key)
                self._refused.append((batch, error))
            self._pending.popleft()

    def _pop_verdicts(self) -> BatchVerdicts:
        verdicts = self._verdicts
        self._verdicts = []
        return verdicts


def _list_oldest(batches: Sequence[ChunkBatch], refused: Iterable[tuple[str, int]] = ()) -> set[int]:
    """Return the indexes of those batches that are the oldest of their attempts, of which none was refused.

    If they are all that has no verdict, what came before the oldest of an attempt was written.
    """
    seen = set(refused)
    oldest: set[int] = set()
    for index, batch in enumerate(batches):
        key = _key_of(batch)
        if key not in seen:
            seen.add(key)
            oldest.add(index)
    return oldest


def _key_of(batch: ChunkBatch) -> tuple[str, int]:
    """Return what tells a batch's attempt from all others."""
    return batch.attempt.task_id, batch.attempt.number
