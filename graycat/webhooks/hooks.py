"""Hooks: what is to be told of a task, kept at home, and the look at the task's record that makes deliveries of it.

Workers may be anybody's, and what they write of a task may be forged. So the address, the secret and everything else
that a delivery is made from lies in the *hook*, which no worker may touch (``queue/lua/create.lua`` writes it). The
script that writes a task's start or end only notes the task's id. Home looks at the noted tasks, and now and then at
all others, because a note may be lost. It believes of a record only whether and how the task has ended.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import redis

from graycat.broker import keys
from graycat.broker.client import broker_errors, is_unusable_key
from graycat.broker.protocol import Broker
from graycat.broker.quarantine import set_aside_key
from graycat.broker.scripts import Scripts
from graycat.errors import BrokerUnavailable
from graycat.families import FAMILIES, EngineFamily
from graycat.loops.unexpected import guarded
from graycat.metrics import worker
from graycat.queue import ids

logger = logging.getLogger(__name__)

#: The most notes of one family, and the most other tasks, that one step looks at.
MAX_NOTES, MAX_LOOKS = 200, 50
#: Milliseconds until a task that has not ended is looked at again without a note.
LOOK_INTERVAL_MS = 60_000


class Hooks:
    """The hooks in the broker. Any number of processes may observe: each event becomes one delivery."""

    def __init__(self, client: Broker) -> None:
        self._client = client
        self._scripts = Scripts(client, Path(__file__).parent / "lua", ("observe", "forget_notes"))

    def read(self, task_id: str) -> str:
        """Return a task's webhook (``Webhook.to_json``); '' if it has none."""
        with broker_errors():
            webhook = self._client.hget(keys.hook_key(task_id), "webhook")
        return (webhook or b"").decode()

    def observe(self, now_ms: int) -> None:
        """Make the deliveries of what was noted, and of what should have been. Raises BrokerUnavailable."""
        for family in FAMILIES:
            self._observe_notes(family, now_ms)
        due = self._range(keys.HOOKS, "-inf", now_ms, MAX_LOOKS)
        for member in due:
            self._look(member.decode(errors="replace"), now_ms)

    def _observe_notes(self, family: EngineFamily, now_ms: int) -> None:
        """Look at the tasks that a family's workers have noted. What is no id of a task of the family is dropped."""
        key = keys.changed_key(family.name)
        notes = self._read_notes(key)
        if not notes:
            return
        arguments: list[str | bytes] = []
        for note, written in notes:
            arguments += [note, str(written)]
            task_id = note.decode(errors="replace")
            if ids.TASK_ID.fullmatch(task_id) and ids.family_of(task_id) is family:
                self._look(task_id, now_ms)
            else:
                _count_forged(family.name)
        # Only now: a process that dies before this has forgotten nothing.
        with broker_errors():
            self._scripts.run("forget_notes", [key], arguments)

    def _read_notes(self, key: str) -> Sequence[tuple[bytes, float]]:
        """Return the oldest notes, and when each was written."""
        try:
            with broker_errors():
                return self._client.zrange(key, 0, MAX_NOTES - 1, withscores=True)
        except redis.ResponseError as error:
            self._set_aside_unusable(key, error)
            return []

    def _range(self, key: str, first: str, last: str | int, count: int) -> Sequence[bytes]:
        try:
            with broker_errors():
                return self._client.zrange(key, first, last, byscore=True, offset=0, num=count)
        except redis.ResponseError as error:
            self._set_aside_unusable(key, error)
            return []

    def _set_aside_unusable(self, key: str, error: redis.ResponseError) -> None:
        if is_unusable_key(error):
            set_aside_key(self._client, "dispatcher", key, "zset")

    def _look(self, task_id: str, now_ms: int) -> None:
        with guarded("dispatcher", let_through=(BrokerUnavailable,)), broker_errors():
            hook, record = keys.hook_key(task_id), keys.record_key(task_id)
            arguments = (task_id, now_ms + LOOK_INTERVAL_MS)
            verdict = self._scripts.run("observe", [hook, record, keys.HOOKS, keys.DELIVERIES], arguments)
            if verdict == b"forged":
                _count_forged(task_id)


def _count_forged(name: str) -> None:
    worker.FORGED.labels("note").inc()
    logger.warning("a task's note for its webhook is forged", extra={"of": name})
