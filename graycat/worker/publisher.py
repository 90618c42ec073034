"""The publisher: sends a worker's chunks to the broker and reads how that went when a few have been sent.

Who waits for each reply is woken twice a token, on a core that its engine wants (docs/decisions/0015).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import hiredis
import redis

from graycat.broker.connections import RawConnection
from graycat.broker.protocol import Broker
from graycat.queue.models import ChunkBatch, Verdict
from graycat.queue.records import TaskRecords

#: Verdicts that may lie in the connection unread: read together, they cost as much as one.
UNREAD = 8
#: Seconds after which a reply is given up, and its batch sent again.
REPLY_S = 2.0

Settled = list[tuple[ChunkBatch, Verdict]]


class Publisher:
    """Publishes batches on a lane of its own; one thread uses it. A batch is *settled* when its verdict is known."""

    def __init__(self, client: Broker, records: TaskRecords) -> None:
        self._client = client
        self._records = records
        self._lane: RawConnection | None = None
        self._open: deque[ChunkBatch] = deque()
        self._known: Settled = []

    @property
    def unsettled(self) -> bool:
        """Tell whether the verdict on some batch is not known yet."""
        return bool(self._open)

    def publish(self, batches: Sequence[ChunkBatch]) -> Settled:
        """Send batches; return the verdicts on earlier ones, if it is time to read them. Raises BrokerUnavailable."""
        self._open += batches
        try:
            lane = self._usable_lane()
            lane.post([self._records.publish_command(batch) for batch in batches])
            if len(self._open) > UNREAD:
                self._take(lane.arrived())
        except (OSError, redis.RedisError):
            self._again()
        return self._told()

    def settle(self) -> Settled:
        """Wait for the verdicts on all that was sent, and return them. Raises BrokerUnavailable."""
        deadline = time.monotonic() + REPLY_S
        try:
            while self._open:
                self._take(self._usable_lane().awaited(deadline - time.monotonic()))
        except (OSError, redis.RedisError):
            self._again()
        return self._told()

    def forget(self) -> list[ChunkBatch]:
        """Give up the batches that are not settled, and return them."""
        lost = list(self._open)
        self._open.clear()
        # Replies to them may be on their way: they would be taken for those to the next ones.
        self._hang_up()
        return lost

    def _hang_up(self) -> None:
        if self._lane is not None:
            self._lane.close()
            self._lane = None

    def _usable_lane(self) -> RawConnection:
        if self._lane is None:
            self._lane = RawConnection(self._client)
            self._lane.socket.setblocking(False)
        return self._lane

    def _take(self, replies: Sequence[Any]) -> None:
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise redis.ResponseError(str(reply))
            self._known.append((self._open.popleft(), Verdict(reply.decode())))

    def _again(self) -> None:
        """Publish once more, with the records' patience, what may not have arrived; what has is not written twice."""
        self._hang_up()
        verdicts = self._records.publish_all(tuple(self._open))
        self._known += zip(self.forget(), verdicts, strict=True)

    def _told(self) -> Settled:
        known, self._known = self._known, []
        return known
