"""Firing: what is due of the schedules becomes batches, each nominal time once.

A time is first noted as waiting, together with where the next look begins; then its batch is submitted under a key that
follows from the time; then it is settled. Whoever dies in between leaves it waiting, and who submits it again finds the
batch that is there.
"""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import suppress

from redis.exceptions import LockError
from redis.lock import Lock

from graycat.batches.errors import BatchConflict, BatchNotFound, InvalidBatch, TooManyBatches
from graycat.batches.records import BatchRecords, keyed_id
from graycat.batches.states import ENDED
from graycat.broker import keys
from graycat.broker.client import broker_errors
from graycat.broker.protocol import Broker
from graycat.schedules.definition import ALLOW, CANCEL, QUEUE
from graycat.schedules.due import due
from graycat.schedules.records import FIRED, MISSED, REFUSED, SKIPPED, ScheduleRecords, State
from graycat.settings import Settings

logger = logging.getLogger(__name__)

#: One that fires and has submitted nothing for this many seconds is taken for dead; where it lives, no harm is done.
HELD_S = 10
#: Times of one schedule that may wait for the batch before them.
MOST_QUEUED = 100


class Firing:
    """Fires what is due. Any number may run at once, in any number of processes: one does, the others let it."""

    def __init__(self, client: Broker, settings: Settings) -> None:
        self._client = client
        self._schedules = ScheduleRecords(client, settings)
        self._batches = BatchRecords(client, settings)

    def step(self, now: int | None = None) -> Counter[str]:
        """Fire what is due at ``now`` (seconds, by default the broker's time); return how often what came of it.

        Raises BrokerUnavailable.
        """
        outcomes: Counter[str] = Counter()
        with broker_errors():
            lock = self._client.lock(keys.FIRING, timeout=HELD_S, blocking=False)
            if not lock.acquire():
                return outcomes
            try:
                for state in self._schedules.states():
                    outcomes += self._fire(state, self._schedules.now() if now is None else now, lock)
                self._client.set(keys.FIRED_AT, self._schedules.now())
            except LockError:
                # Somebody thinks that we have died, and does the rest.
                logger.warning("firing took too long")
            finally:
                with suppress(LockError):
                    lock.release()
        return outcomes

    def _fire(self, state: State, now: int, lock: Lock) -> Counter[str]:
        outcomes: Counter[str] = Counter()
        lock.reacquire()
        if state.paused:
            return outcomes
        found = due(state.schedule.timing(), state.mark, now)
        if found.mark != state.mark:
            if not self._schedules.looked(state, found):
                return outcomes
            state.waiting += found.fire
            if found.passed_over:
                outcomes[MISSED] += 1
                self._log(state, found.passed_over[0], MISSED)
        for place, time in enumerate(state.waiting):
            outcome = self._submit(state, time, crowd=len(state.waiting) - place)
            if outcome is None:
                break
            outcomes[outcome] += 1
            lock.reacquire()
        return outcomes

    def _submit(self, state: State, time: int, crowd: int) -> str | None:
        """Deal with a waiting time; return its outcome, or None where it goes on waiting. ``crowd``: how many wait."""
        schedule, batch_id = state.schedule, ""
        if schedule.overlap != ALLOW and self._live(state.batch):
            if schedule.overlap == QUEUE and crowd <= MOST_QUEUED:
                return None
            if schedule.overlap != CANCEL:
                return self._settle(state, time, SKIPPED, reason="the batch before it is not over")
            self._batches.cancel(state.batch)
        try:
            batch_id, _ = self._batches.submit(schedule.document(), schedule.owner, schedule.key(time), schedule.name)
        except BatchConflict:
            # It was submitted, and not settled, before the schedule's batch was changed.
            batch_id = keyed_id(schedule.owner, schedule.key(time))
        except TooManyBatches:
            return None
        except InvalidBatch as error:
            # It was checked when the schedule was added: the server's limits are others now.
            return self._settle(state, time, REFUSED, reason=str(error)[:500])
        return self._settle(state, time, FIRED, batch_id)

    def _settle(self, state: State, time: int, outcome: str, batch_id: str = "", reason: str = "") -> str:
        self._schedules.settled(state, time, outcome, batch_id, reason)
        state.batch = batch_id or state.batch
        self._log(state, time, outcome, batch_id)
        return outcome

    def _live(self, batch_id: str) -> bool:
        if not batch_id:
            return False
        try:
            return self._batches.get(batch_id)["state"] not in ENDED
        except BatchNotFound:
            return False

    def _log(self, state: State, time: int, outcome: str, batch_id: str = "") -> None:
        extra = {"schedule": state.schedule.id, "time": time, "outcome": outcome, "batch": batch_id or "-"}
        logger.info("schedule", extra=extra)
