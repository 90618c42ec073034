"""What the control worker needs to know of a live batch at every step: little, and in one round trip for all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graycat.batches.errors import BatchNotFound
from graycat.batches.spec.options import BatchOptions
from graycat.broker.client import broker_errors
from graycat.broker.keys import BATCH_FOLDERS, BATCH_TURN, LIVE_BATCHES, batch_key
from graycat.broker.protocol import Broker

_TEXTS = ("state", "owner", "name", "key", "schedule", "folder", "reason", "paused_by", "entropy", "prompts", "again")
_NUMBERS = ("total", "submitted_ms", "started_from_ms", "started_ms", "finished_ms", "verify", "planned", "asked")


@dataclass(frozen=True, slots=True)
class LiveBatch:
    """A live batch.

    ``verify``: the first item that is not verified yet, 0 where none is to be; ``again``: states (parted by commas)
    whose items are to be made once more; ``asked``: answers of no use to the question for prompts, in a row.
    """

    id: str
    terms: BatchOptions
    state: str
    owner: str
    name: str
    key: str
    schedule: str
    folder: str
    reason: str
    paused_by: str
    entropy: str
    prompts: str
    again: str
    total: int
    submitted_ms: int
    started_from_ms: int
    started_ms: int
    finished_ms: int
    verify: int
    planned: int
    asked: int

    @property
    def deadline_ms(self) -> int | None:
        """Return when it must be over, by the broker's clock."""
        seconds = self.terms.deadline_s
        return self.started_from_ms + int(seconds * 1000) if seconds is not None else None


class LiveBatches:
    """The live batches in the broker. Every method raises BrokerUnavailable."""

    def __init__(self, client: Broker) -> None:
        self._client = client

    def all(self) -> list[LiveBatch]:
        """Return the live batches, the one whose turn it is first."""
        names = ("terms", *_TEXTS, *_NUMBERS)
        with broker_errors():
            ids = [name.decode() for name in self._client.zrange(LIVE_BATCHES, 0, -1)]
            with self._client.pipeline(transaction=False) as pipe:
                for batch_id in ids:
                    pipe.hmget(batch_key(batch_id), names)
                rows = pipe.execute()
            found = []
            for batch_id, row in zip(ids, rows, strict=True):
                if row[0] is None:
                    # It is gone; nobody else takes it off the list.
                    self._client.zrem(LIVE_BATCHES, batch_id)
                else:
                    found.append(_head(batch_id, dict(zip(names, row, strict=True))))
        return found

    def document(self, batch_id: str) -> dict[str, Any]:
        """Return a batch's spec as it was given. Raises BatchNotFound."""
        with broker_errors():
            text = self._client.hget(batch_key(batch_id), "document")
        if text is None:
            raise BatchNotFound
        document: dict[str, Any] = json.loads(text)
        return document

    def note(self, batch_id: str, fields: Mapping[str, str | int | float]) -> None:
        """Write fields of a batch; '' deletes one."""
        gone = [name for name, value in fields.items() if value == ""]
        kept = {name: value for name, value in fields.items() if value != ""}
        with broker_errors(), self._client.pipeline(transaction=True) as pipe:
            if kept:
                pipe.hset(batch_key(batch_id), mapping=kept)
            if gone:
                pipe.hdel(batch_key(batch_id), *gone)
            pipe.execute()

    def add(self, batch_id: str, field: str, amount: int) -> None:
        """Add to a number of a batch."""
        with broker_errors():
            self._client.hincrby(batch_key(batch_id), field, amount)

    def had_turn(self, batch_id: str) -> None:
        """Put a batch behind all others."""
        with broker_errors():
            self._client.zadd(LIVE_BATCHES, {batch_id: self._client.incr(BATCH_TURN)}, xx=True)

    def claim_folder(self, head: LiveBatch, folder: str) -> str:
        """Have a folder for a batch; return the live batch that has it instead, '' where it is this one's now."""
        place = f"{head.terms.store}:{folder}"
        with broker_errors():
            self._client.hsetnx(BATCH_FOLDERS, place, head.id)
            # Empty if another batch has left the folder just now.
            owner = (self._client.hget(BATCH_FOLDERS, place) or b"").decode()
            if owner != head.id and self._client.zscore(LIVE_BATCHES, owner) is None:
                self._client.hset(BATCH_FOLDERS, place, head.id)
                owner = head.id
        return "" if owner == head.id else owner

    def leave_folder(self, head: LiveBatch) -> None:
        """Let others have a batch's folder."""
        place = f"{head.terms.store}:{head.folder}"
        with broker_errors():
            if (self._client.hget(BATCH_FOLDERS, place) or b"").decode() == head.id:
                self._client.hdel(BATCH_FOLDERS, place)


def _head(batch_id: str, row: Mapping[str, bytes | None]) -> LiveBatch:
    texts = {name: (row[name] or b"").decode() for name in _TEXTS}
    numbers = {name: int(row[name] or 0) for name in _NUMBERS}
    return LiveBatch(batch_id, BatchOptions.from_record((row["terms"] or b"{}").decode()), **texts, **numbers)  # type: ignore[arg-type]
