"""RedBeat as graycat runs it: if it loses the broker or its lock, beat starts again instead of ending."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import redis
from redbeat import RedBeatScheduler
from redbeat.schedulers import REDBEAT_REDIS_KEY, get_redis
from redis.exceptions import LockError, LockNotOwnedError

from graycat.broker.client import broker_errors, open_pool
from graycat.broker.introduction import NO_INTRODUCTION
from graycat.errors import BrokerUnavailable
from graycat.loops import readiness
from graycat.loops.unexpected import guarded, note

logger = logging.getLogger(__name__)

#: Seconds between two tries while the broker is unavailable.
RETRY_INTERVAL_S = 1.0
#: If this many messages wait in a queue, no further tick is sent to it.
MAX_WAITING_MESSAGES = 32


class Ticker(RedBeatScheduler):
    """RedBeat with some of its faults corrected. Raises redis-py's errors; LockError if its lock is lost."""

    #: When this process last ticked (monotonic clock).
    ticked_at = -math.inf

    _ticked = False

    def __init__(self, app: Any, *args: Any, **kwargs: Any) -> None:
        """``app``: a GraycatCelery."""
        if app.settings.sentinel is not None and getattr(app, REDBEAT_REDIS_KEY, None) is None:
            # RedBeat's own way to sentinels (2.4) has no deadline for connections, and keeps no password of theirs.
            options = {**app.conf.redbeat_redis_options, **NO_INTRODUCTION, "decode_responses": True}
            setattr(app, REDBEAT_REDIS_KEY, redis.Redis.from_pool(open_pool(app.settings, options)))
        super().__init__(app, *args, **kwargs)

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        """Send what is due; return the seconds until the next tick."""
        # If RedBeat fails while it waits for its lock, Celery only logs that: beat would go on without the lock.
        if self.lock_key and self.lock is None:
            raise LockNotOwnedError("the lock could not be taken")
        try:
            with broker_errors():
                self._check_entries()
                pause_s = super().tick(*args, **kwargs)
        except BrokerUnavailable as error:
            # A beat that started again would have to wait until its own lock expires.
            logger.warning("broker unavailable", extra={"reason": type(error.__cause__).__name__})
            return RETRY_INTERVAL_S
        except LockError:
            raise
        except Exception as error:  # noqa: BLE001 (what the broker holds may be anything)
            note("beat", error)
            self.setup_schedule()
            return RETRY_INTERVAL_S
        Ticker.ticked_at = time.monotonic()
        if not self._ticked:
            self._ticked = True
            if not readiness.tell_ready():
                logger.info("beat ticks")
        return pause_s

    def setup_schedule(self) -> None:
        """Store the entries. If RedBeat's keys hold what it cannot use, they are deleted first."""
        try:
            with broker_errors():
                self._delete_unusable_lock()
                super().setup_schedule()
                self._check_entries()
        except BrokerUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 (what the broker holds may be anything)
            note("beat", error)
            with broker_errors():
                self._delete_entries()
                super().setup_schedule()

    def close(self) -> None:
        """Release the lock; if that fails, it expires."""
        try:
            super().close()
        except redis.RedisError as error:
            # Raised from here, the error would take the place of the reason why beat ends.
            self.lock = None
            logger.warning("the lock of beat was not released", extra={"reason": type(error).__name__})

    def _delete_unusable_lock(self) -> None:
        """Delete a lock that nobody can hold or release: a key of another type."""
        client = get_redis(self.app)
        if client.type(self.app.redbeat_conf.lock_key) not in ("string", "none"):
            client.delete(self.app.redbeat_conf.lock_key)

    def _delete_entries(self) -> None:
        conf = self.app.redbeat_conf
        names = [self.Entry.generate_key(self.app, name) for name in self.app.conf.beat_schedule]
        get_redis(self.app).delete(conf.schedule_key, conf.statics_key, *names)

    def _check_entries(self) -> None:
        """Correct the entries. Raises an error of any type if one is missing or unusable.

        An entry whose last run is in the future is rescheduled: a clock, this machine's or another's, was ahead then.
        """
        for name, settings in self.app.conf.beat_schedule.items():
            entry = self.Entry.from_key(self.Entry.generate_key(self.app, name), app=self.app)
            if (entry.task, entry.options) != (settings["task"], settings["options"]) or not entry.enabled:
                raise ValueError("the entry is not that of the settings")
            if entry.last_run_at is not None and entry.last_run_at > self.app.now():
                entry.reschedule(self.app.now())
            elif entry.rank is None:
                # RedBeat removes an entry that it could not load, and would never look at it again.
                entry.save()

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        """Send an entry's task, unless its queue is full of messages that no worker takes."""
        # RedBeat would log every error with a traceback, at every tick.
        with guarded("beat", let_through=(BrokerUnavailable,)):
            try:
                with broker_errors():
                    if get_redis(self.app).llen(entry.options["queue"]) >= MAX_WAITING_MESSAGES:
                        return self.reserve(entry) if advance else None
                    return super().apply_async(entry, producer=producer, advance=advance, **kwargs)
            except BrokerUnavailable as error:
                logger.warning("broker unavailable", extra={"reason": type(error.__cause__).__name__})
        return None
