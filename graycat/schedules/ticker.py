"""RedBeat as graycat runs it: a beat that loses its broker or its lock begins again, instead of ending."""

from __future__ import annotations

import logging
from typing import Any

import redis
from redbeat import RedBeatScheduler
from redbeat.schedulers import get_redis
from redis.exceptions import LockNotOwnedError

logger = logging.getLogger(__name__)

#: Seconds between two tries while the broker is away.
AGAIN_S = 1.0
#: Messages that may wait in a queue; behind those, a tick more says nothing.
MOST_WAITING = 32


class Ticker(RedBeatScheduler):
    """RedBeat, with four of its habits mended. Raises what redis-py raises: where its lock is lost, LockError."""

    _ticked = False

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        """Send what is due; return the seconds until the next tick."""
        # Celery only logs what goes wrong while RedBeat waits for its lock: it would go on without.
        if self.lock_key and self.lock is None:
            raise LockNotOwnedError("the lock could not be taken")
        try:
            self._mind_the_clock()
            pause_s = super().tick(*args, **kwargs)
        except (redis.ConnectionError, redis.TimeoutError) as error:
            # A beat that began again would have to wait until its own lock has run out.
            logger.warning("broker unavailable", extra={"reason": type(error).__name__})
            return AGAIN_S
        if not self._ticked:
            self._ticked = True
            logger.info("beat ticks")
        return pause_s

    def _mind_the_clock(self) -> None:
        """Let nothing wait for a time that another machine's clock had reached, or this one's before it was set."""
        for name in self.app.conf.beat_schedule:
            entry = self.Entry.from_key(self.Entry.generate_key(self.app, name), app=self.app)
            if entry.last_run_at is not None and entry.last_run_at > self.app.now():
                entry.reschedule(self.app.now())

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        """Send an entry's task, unless its queue is full of messages that nobody takes."""
        if get_redis(self.app).llen(entry.options["queue"]) >= MOST_WAITING:
            return self.reserve(entry) if advance else None
        return super().apply_async(entry, producer=producer, advance=advance, **kwargs)
