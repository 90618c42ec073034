"""The schedule runner: submits the batches of times that are due, each nominal time once.

A time is first stored as waiting, together with the time after which the next step begins. Then its batch is submitted
with a key that is derived from the time. Then it is settled. If the process is killed in between, the time still waits,
and submitting it again finds the batch that exists already.
"""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import suppress

from redis.exceptions import LockError
from redis.lock import Lock

from graycat.auth.tokens import PLAYER_MARK, parse_api_tokens
from graycat.batches.errors import BatchConflict, BatchNotFound, InvalidBatch, TooManyBatches
from graycat.batches.records import BatchRecords, batch_id_for_key
from graycat.batches.spec.choices import find_missing
from graycat.batches.states import ENDED
from graycat.broker import keys
from graycat.broker.client import broker_errors, now_ms
from graycat.broker.protocol import Broker
from graycat.errors import BrokerFull, BrokerUnavailable, StoredBytesExceeded
from graycat.fleet.catalogs import Catalogs
from graycat.fleet.offers import Offers
from graycat.fleet.workers import WorkerRegistry, select_serving
from graycat.loops.unexpected import guarded
from graycat.queue.topology import SD_BATCH
from graycat.schedules.definition import OVERLAP_ALLOW, OVERLAP_CANCEL, OVERLAP_QUEUE, Schedule
from graycat.schedules.due import find_due
from graycat.schedules.records import FIRED, MISSED, REFUSED, SKIPPED, ScheduleRecords, ScheduleState
from graycat.settings import Settings

logger = logging.getLogger(__name__)

#: If a process has submitted nothing for this many seconds, another one takes over. Both at once do no harm.
LOCK_TIMEOUT_S = 10
#: How many times of one schedule may wait for its last batch to end.
MAX_WAITING = 100
#: Characters of the reason of an outcome.
MAX_REASON_CHARS = 500
#: Choices for which a batch waits, and says so: with any other checkpoint it makes nothing. Without one of the others
#: an engine would make something else.
_WAITED_FOR = ("override_settings.sd_model_checkpoint",)


class ScheduleRunner:
    """Fires what is due. It may run in any number of processes; a lock lets one of them work at a time."""

    def __init__(self, client: Broker, settings: Settings) -> None:
        self._client = client
        self._schedules = ScheduleRecords(client, settings)
        self._batches = BatchRecords(client, settings)
        self._registry = WorkerRegistry(client)
        self._catalogs = Catalogs(self._registry)
        #: A configured token may have the name of one that was minted before.
        self._configured = parse_api_tokens(settings).keys()

    def step(self, now: int | None = None) -> Counter[str]:
        """Fire what is due at ``now`` (seconds, by default the broker's time); return the number of each outcome.

        Raises BrokerUnavailable.
        """
        outcomes: Counter[str] = Counter()
        with broker_errors():
            lock = self._client.lock(keys.FIRING, timeout=LOCK_TIMEOUT_S, blocking=False)
            if not lock.acquire():
                return outcomes
            try:
                for state in self._schedules.load_states():
                    lock.reacquire()
                    if not state.paused:
                        outcomes += self._fire_guarded(state, self._now_s() if now is None else now, lock)
                self._client.set(keys.FIRED_AT, self._now_s())
            except LockError:
                # This took too long: another process has taken over, and fires the rest.
                logger.warning("firing took too long")
            finally:
                with suppress(LockError):
                    lock.release()
        return outcomes

    def _now_s(self) -> int:
        return now_ms(self._client) // 1000

    def _fire_guarded(self, state: ScheduleState, now: int, lock: Lock) -> Counter[str]:
        """Fire what is due of one schedule. BrokerUnavailable and LockError end the step, no other error does."""
        with guarded("schedules", let_through=(BrokerUnavailable, LockError)), broker_errors():
            return self._fire(state, now, lock)
        return Counter()

    def _fire(self, state: ScheduleState, now: int, lock: Lock) -> Counter[str]:
        """Fire what is due of one schedule."""
        outcomes: Counter[str] = Counter()
        due = find_due(state.schedule.timing(), state.handled_until, now)
        if due.handled_until != state.handled_until:
            if not self._schedules.advance(state, due):
                return outcomes
            state.waiting += due.fire
            if due.passed_over:
                outcomes[MISSED] += 1
                self._log(state, due.passed_over[0], MISSED)

        for index, time in enumerate(state.waiting):
            outcome = self._submit(state, time, waiting=len(state.waiting) - index)
            if outcome is None:
                break
            outcomes[outcome] += 1
            lock.reacquire()
        return outcomes

    def _submit(self, state: ScheduleState, time: int, waiting: int) -> str | None:
        """Submit the batch of a waiting time. Return its outcome, or None if it must go on waiting.

        ``waiting``: how many times wait, this one included.
        """
        schedule = state.schedule
        replaced_batch_id = ""
        if self._has_ended(schedule.owner):
            return self._settle(state, time, SKIPPED, reason="its API token was revoked or has expired")
        if schedule.overlap != OVERLAP_ALLOW and self._is_live(state.last_batch_id):
            if schedule.overlap == OVERLAP_QUEUE and waiting <= MAX_WAITING:
                return None
            if schedule.overlap != OVERLAP_CANCEL:
                return self._settle(state, time, SKIPPED, reason="the batch before it has not ended")
            replaced_batch_id = state.last_batch_id
        return self._submit_batch(state, time, replaced_batch_id)

    def _submit_batch(self, state: ScheduleState, time: int, replaced_batch_id: str) -> str | None:
        """Submit the batch of a waiting time, in place of another if that is given.

        Return its outcome, or None if there is no room for it now.
        """
        schedule = state.schedule
        missing = self._missing_choices(schedule)
        refused = [text for field, text in missing if field not in _WAITED_FOR]
        if refused:
            return self._settle(state, time, REFUSED, reason="; ".join(refused)[:MAX_REASON_CHARS])

        if replaced_batch_id:
            self._batches.cancel(replaced_batch_id)
        key = schedule.batch_key(time)
        try:
            batch_id, _ = self._batches.submit(schedule.document(), schedule.owner, key, schedule.name)
        except BatchConflict:
            # It was submitted but not settled, and the schedule's spec was changed since then.
            batch_id = batch_id_for_key(schedule.owner, key)
        except (TooManyBatches, StoredBytesExceeded, BrokerFull):
            return None
        except InvalidBatch as error:
            # It was valid when the schedule was created; the server's limits have changed since then.
            return self._settle(state, time, REFUSED, reason=str(error)[:MAX_REASON_CHARS])
        waits_for = "; ".join(text for _, text in missing)[:MAX_REASON_CHARS]
        return self._settle(state, time, FIRED, batch_id, waits_for)

    def _missing_choices(self, schedule: Schedule) -> list[tuple[str, str]]:
        """Return what a schedule's batch names and no live engine has any more: the field, and a sentence."""
        with guarded("schedules", let_through=(BrokerUnavailable, LockError)):
            ready = select_serving(self._registry.workers(), SD_BATCH)
            return find_missing(schedule.spec, Offers(self._catalogs.load(ready)))
        # A list that cannot be read keeps no batch from being made.
        return []

    def _has_ended(self, owner: str) -> bool:
        """Return whether the minted API token of an owner, or of a player's game, was revoked or has expired."""
        name = owner.partition(PLAYER_MARK)[0]
        if name in self._configured:
            return False
        ended_at = self._client.zscore(keys.TOKEN_ENDS, name)
        return ended_at is not None and ended_at <= self._now_s()

    def _settle(self, state: ScheduleState, time: int, outcome: str, batch_id: str = "", reason: str = "") -> str:
        self._schedules.settle(state, time, outcome, batch_id, reason)
        if batch_id:
            state.last_batch_id = batch_id
        self._log(state, time, outcome, batch_id)
        return outcome

    def _is_live(self, batch_id: str) -> bool:
        if not batch_id:
            return False
        with guarded("schedules", let_through=(BrokerUnavailable,)):
            try:
                return self._batches.get(batch_id)["state"] not in ENDED
            except BatchNotFound:
                return False
        # It is damaged, and nothing runs it.
        return False

    def _log(self, state: ScheduleState, time: int, outcome: str, batch_id: str = "") -> None:
        extra = {"schedule": state.schedule.id, "time": time, "outcome": outcome, "batch": batch_id or "-"}
        logger.info("schedule", extra=extra)
