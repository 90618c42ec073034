"""Ends the tasks and batches of API tokens that were revoked or have expired; the control worker does.

Requests that wait are ended by their web processes, which tell their clients why (``web/streaming/token_watch.py``).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from graycat.auth.tokens import PLAYER_MARK, parse_api_tokens
from graycat.batches.live import LiveBatches
from graycat.batches.records import BatchRecords
from graycat.broker import keys
from graycat.broker.client import broker_errors
from graycat.broker.protocol import Broker
from graycat.celeryapp import GraycatCelery
from graycat.errors import BrokerUnavailable
from graycat.families import FAMILIES
from graycat.loops.unexpected import guarded
from graycat.metrics import worker
from graycat.queue.control import broadcast_stop
from graycat.queue.ids import TASK_ID
from graycat.queue.models import Verdict
from graycat.queue.records import TaskRecords
from graycat.settings import Settings

logger = logging.getLogger(__name__)

#: Seconds between two looks.
INTERVAL_S = 0.5
#: Seconds from the end of a token until its tasks are ended: web processes have refused its requests by then, and have
#: told those that wait why.
DELAY_S = 2.0
#: Seconds for which they are ended again and again: a request that was let in before may submit one later.
REPEAT_S = 120.0
#: Seconds for which it is remembered that a token has ended, because its schedules submit nothing any more.
KEPT_S = 400 * 86400.0
#: Tasks that are ended in one look, so that other duties are not late.
MAX_TASKS = 200


class EndedTokens:
    """Ends what the tokens in ``keys.TOKEN_ENDS`` have left."""

    def __init__(
        self,
        client: Broker,
        settings: Settings,
        app: GraycatCelery,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._app = app
        self._now = now
        self._records = TaskRecords(client, settings)
        self._batches = BatchRecords(client, settings)
        self._live_batches = LiveBatches(client)
        self._cancels = settings.cancels_revoked_tasks
        #: Ends before this were looked at long enough. At first all, since no control worker may have run for a while.
        self._since: float | str = "-inf"
        #: A configured token may have the name of one that was minted before.
        self._configured = parse_api_tokens(settings).keys()

    def step(self) -> int:
        """End the tasks of the tokens that have ended; return how many. Raises BrokerUnavailable."""
        now = self._now()
        with broker_errors():
            names = self._client.zrange(keys.TOKEN_ENDS, self._since, now - DELAY_S, byscore=True)
        ended = 0
        if self._cancels:
            owners = self._owners(names)
            for owner in owners:
                with guarded("ended tokens", let_through=(BrokerUnavailable,)):
                    ended += self._end(owner, MAX_TASKS - ended)
            self._end_batches(owners)
        if ended < MAX_TASKS:
            self._since = now - DELAY_S - REPEAT_S
        with broker_errors():
            self._client.zremrangebyscore(keys.TOKEN_ENDS, "-inf", now - KEPT_S)
        return ended

    def _owners(self, names: Iterable[bytes]) -> set[str]:
        """Return which of the names are those of minted tokens."""
        owners = set()
        for name in names:
            with guarded("ended tokens"):
                owners.add(name.decode())
        return owners - self._configured

    def _end_batches(self, owners: set[str]) -> None:
        """Cancel the batches of some tokens and their players."""
        if not owners:
            return
        for batch in self._live_batches.load_all():
            if batch.owner.partition(PLAYER_MARK)[0] in owners:
                with guarded("ended tokens", let_through=(BrokerUnavailable,)), broker_errors():
                    self._batches.end(batch.id, "its API token was revoked or has expired")

    def _end(self, owner: str, count: int) -> int:
        """End what an owner and its players have left, ``count`` tasks at most; return how many tasks."""
        with broker_errors(), self._client.pipeline(transaction=False) as pipe:
            for family in FAMILIES:
                pipe.zrange(keys.owned_key(family.name, owner), 0, count)
                pipe.zrange(keys.players_key(family.name, owner), 0, count)
            names = [name for reply in pipe.execute() for name in reply]
        ended = 0
        for task_id in names[: max(count, 0)]:
            with guarded("ended tokens", let_through=(BrokerUnavailable,)), broker_errors():
                ended += self._cancel(task_id.decode())
        if ended:
            logger.warning("tasks ended: their API token did", extra={"owner": owner, "count": ended})
        return ended

    def _cancel(self, task_id: str) -> bool:
        """Cancel a task; return whether it was not over, nor asked to stop before."""
        if not TASK_ID.fullmatch(task_id):
            return False
        kind, asked = self._records.fields(task_id, "kind", "cancel")
        if asked:
            return False
        state, name = self._records.cancel(task_id)
        if state == "running":
            broadcast_stop(self._app, task_id, name, Verdict.CANCEL)
        elif state == "cancelled":
            worker.count_refusal(kind, "cancelled")
        return bool(state)
