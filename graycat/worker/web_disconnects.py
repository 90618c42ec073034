"""Cancels the tasks of web processes that are gone: to a task that is the same as a client that has disconnected.

A web process cancels the tasks of its clients when they disconnect. One that was killed cannot. Its channel then has no
subscriber, and the worker asks the broker for that (docs/architecture.md).

The tasks of a worker that died are another matter: ``graycat/queue/redelivery.py``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

import hiredis
import redis

from graycat import families
from graycat.broker.connections import RawConnection
from graycat.broker.keys import live_key
from graycat.engines.client import StopReason
from graycat.errors import BrokerUnavailable
from graycat.loops.unexpected import guarded
from graycat.worker.runtime import EngineRuntime, Running

logger = logging.getLogger(__name__)

#: Seconds between two checks.
CHECK_INTERVAL_S = 1.0
#: A channel without a subscriber for this many seconds belongs to a process that is gone. A hub that has lost its
#: connection subscribes again sooner.
GONE_AFTER_S = 3.0
#: Seconds that the hubs get to subscribe again after the broker was away. Until then no channel counts as left.
BROKER_GRACE_S = 5.0
#: Seconds until a left channel is forgotten. Until then the tasks that it has left in the queue are stopped at once.
FORGET_AFTER_S = 600.0


class AbandonedTasks:
    """Finds running tasks that no web process waits for any more, and cancels them.

    It has a connection of its own, because a broken one shows that the broker may have restarted: then no channel has a
    subscriber until the hubs are back, and that says nothing about their processes.
    """

    def __init__(self, runtime: EngineRuntime, clock: Callable[[], float] = time.monotonic) -> None:
        self._runtime = runtime
        self._live_key = live_key((families.find_by_queues(runtime.queues) or families.LLM).name)
        self._clock = clock
        self._connection: RawConnection | None = None
        self._connected_at = 0.0
        #: Since when each channel has had no subscriber.
        self._left_since: dict[str, float] = {}

    def cancel_abandoned(self) -> None:
        """Cancel the running tasks all of whose web processes are gone. Raises BrokerUnavailable."""
        waited_for = [running for running in self._runtime.running.all() if is_waited_for(running)]
        self._forget_old()
        channels = set(self._left_since)
        for running in waited_for:
            channels.update(running.attempt.channels)
        if not channels:
            # Without a connection that is older than the grace, the first tasks after a start would go on for longer.
            self._count_subscribers([])
            return

        self._note_subscribers(self._count_subscribers(sorted(channels)))
        for running in waited_for:
            if self._all_left(running.attempt.channels):
                with guarded("web disconnects", let_through=(BrokerUnavailable,)):
                    self._cancel(running)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _forget_old(self) -> None:
        oldest = self._clock() - FORGET_AFTER_S
        self._left_since = {channel: since for channel, since in self._left_since.items() if since > oldest}

    def _note_subscribers(self, counts: dict[str, int]) -> None:
        now = self._clock()
        if now - self._connected_at < BROKER_GRACE_S:
            self._left_since.clear()
            return
        for channel, count in counts.items():
            if count:
                self._left_since.pop(channel, None)
            else:
                self._left_since.setdefault(channel, now)

    def _all_left(self, channels: Iterable[str]) -> bool:
        now = self._clock()
        return all(now - self._left_since.get(channel, now) >= GONE_AFTER_S for channel in channels)

    def _cancel(self, running: Running) -> None:
        """Cancel a task, unless another web process follows it by now."""
        attempt = running.attempt
        record = self._runtime.records.get(attempt.task_id)
        # The record has more channels if another web process has followed the task since it was claimed.
        if not record or not self._all_left(record.get("channels", "").split()):
            return
        self._runtime.records.cancel(attempt.task_id)
        if running.call.stopped is None:
            extra = {"task_id": attempt.task_id, "kind": attempt.kind, "request_id": attempt.request_id}
            logger.warning("task cancelled: its web process is gone", extra=extra)
        running.call.stop(StopReason.CANCELLED)

    def _count_subscribers(self, channels: list[str]) -> dict[str, int]:
        """Return how many subscribers each channel has. Raises BrokerUnavailable."""
        try:
            if self._connection is None:
                self._connection = RawConnection(self._runtime.client)
                self._connected_at = self._clock()
            if not channels:
                return {}
            # EXISTS only fails while the broker loads its data; PUBSUB answers even then.
            self._connection.send([("EXISTS", self._live_key), ("PUBSUB", "NUMSUB", *channels)])
            exists, pairs = self._connection.read(2)
            for reply in (exists, pairs):
                if isinstance(reply, hiredis.ReplyError):
                    raise redis.ConnectionError(str(reply))
        except (OSError, redis.RedisError) as error:
            self.close()
            self._left_since.clear()
            raise BrokerUnavailable from error
        # The reply is a flat list of channels and counts.
        return {name.decode(): int(count) for name, count in zip(pairs[::2], pairs[1::2], strict=True)}


def is_waited_for(running: Running) -> bool:
    """Return whether a running task ends with the web processes that wait for it."""
    return bool(running.attempt.channels) and not running.attempt.kept
