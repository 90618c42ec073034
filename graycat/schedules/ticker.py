"""RedBeat as graycat runs it: if it loses the broker or its lock, beat starts again instead of ending."""

from __future__ import annotations

import logging
from typing import Any

import redis
from redbeat import RedBeatScheduler
from redbeat.schedulers import get_redis
from redis.exceptions import LockNotOwnedError

logger = logging.getLogger(__name__)

#: Seconds between two tries while the broker is unavailable.
RETRY_INTERVAL_S = 1.0
#: If this many messages wait in a queue, no further tick is sent to it.
MAX_WAITING_MESSAGES = 32


class Ticker(RedBeatScheduler):
    """RedBeat with four of its faults corrected. Raises redis-py's errors; LockError if its lock is lost."""

    _ticked = False

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        """Send what is due; return the seconds until the next tick."""
        # If RedBeat fails while it waits for its lock, Celery only logs that: beat would go on without the lock.
        if self.lock_key and self.lock is None:
            raise LockNotOwnedError("the lock could not be taken")
        try:
            self._reschedule_future_entries()
            pause_s = super().tick(*args, **kwargs)
        except (redis.ConnectionError, redis.TimeoutError) as error:
            # A beat that started again would have to wait until its own lock expires.
            logger.warning("broker unavailable", extra={"reason": type(error).__name__})
            return RETRY_INTERVAL_S
        if not self._ticked:
            self._ticked = True
            logger.info("beat ticks")
        return pause_s

    def _reschedule_future_entries(self) -> None:
        """Reschedule entries whose last run is in the future: a clock, this machine's or another's, was ahead then."""
        for name in self.app.conf.beat_schedule:
            entry = self.Entry.from_key(self.Entry.generate_key(self.app, name), app=self.app)
            if entry.last_run_at is not None and entry.last_run_at > self.app.now():
                entry.reschedule(self.app.now())

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        """Send an entry's task, unless its queue is full of messages that no worker takes."""
        if get_redis(self.app).llen(entry.options["queue"]) >= MAX_WAITING_MESSAGES:
            return self.reserve(entry) if advance else None
        return super().apply_async(entry, producer=producer, advance=advance, **kwargs)
