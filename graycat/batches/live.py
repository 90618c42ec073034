"""Live batches: those that the control worker still has work with. All are loaded in one round trip at every step."""

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

#: Fields of a batch's record that every step needs.
_FIELDS = (
    *("terms", "state", "owner", "name", "key", "schedule", "folder", "reason", "paused_by", "entropy", "prompts"),
    *("again", "total", "submitted_ms", "started_from_ms", "started_ms", "finished_ms", "verify", "planned", "asked"),
)


@dataclass(frozen=True, slots=True)
class LiveBatch:
    """A live batch. Times are milliseconds of the broker's clock, 0 for none.

    ``started_from_ms``: when it was submitted or last resumed; the deadline counts from then.
    ``prompts``: those that the text engine has written so far. ``useless_answers``: the text engine's last answers in
    a row that held no usable prompts. ``states_to_retry``: states whose items are to be made again.
    ``next_to_verify``: the first item whose file is not verified yet; 0 if nothing is to be verified.
    """

    id: str
    options: BatchOptions
    state: str
    owner: str
    name: str
    key: str
    schedule: str
    folder: str
    reason: str
    paused_by: str
    entropy: str
    prompts: list[str]
    useless_answers: int
    planned: bool
    states_to_retry: tuple[str, ...]
    next_to_verify: int
    total: int
    submitted_ms: int
    started_from_ms: int
    started_ms: int
    finished_ms: int

    @property
    def deadline_ms(self) -> int | None:
        """Return when the batch must have ended, by the broker's clock; None if it has no deadline."""
        if self.options.deadline_s is None:
            return None
        return self.started_from_ms + int(self.options.deadline_s * 1000)


class LiveBatches:
    """The live batches in the broker. Every method raises BrokerUnavailable."""

    def __init__(self, client: Broker) -> None:
        self._client = client

    def load_all(self) -> list[LiveBatch]:
        """Return the live batches, in the order of their turns."""
        with broker_errors():
            ids = [name.decode() for name in self._client.zrange(LIVE_BATCHES, 0, -1)]
            with self._client.pipeline(transaction=False) as pipe:
                for batch_id in ids:
                    pipe.hmget(batch_key(batch_id), _FIELDS)
                rows = pipe.execute()

            batches = []
            for batch_id, row in zip(ids, rows, strict=True):
                fields = dict(zip(_FIELDS, row, strict=True))
                if fields["terms"] is None:
                    # The record has expired; no other process removes it from the set.
                    self._client.zrem(LIVE_BATCHES, batch_id)
                else:
                    batches.append(_parse_batch(batch_id, fields))
        return batches

    def load_document(self, batch_id: str) -> dict[str, Any]:
        """Return a batch's spec as its caller wrote it. Raises BatchNotFound."""
        with broker_errors():
            text = self._client.hget(batch_key(batch_id), "document")
        if text is None:
            raise BatchNotFound
        document: dict[str, Any] = json.loads(text)
        return document

    def update_fields(self, batch_id: str, fields: Mapping[str, str | int | float]) -> None:
        """Write fields of a batch's record; '' deletes a field."""
        key = batch_key(batch_id)
        with broker_errors(), self._client.pipeline(transaction=True) as pipe:
            for name, value in fields.items():
                if value == "":
                    pipe.hdel(key, name)
                else:
                    pipe.hset(key, name, value)
            pipe.execute()

    def increment(self, batch_id: str, field: str, amount: int) -> None:
        """Add to a number in a batch's record."""
        with broker_errors():
            self._client.hincrby(batch_key(batch_id), field, amount)

    def move_to_back(self, batch_id: str) -> None:
        """End a batch's turn: it comes after all others."""
        with broker_errors():
            self._client.zadd(LIVE_BATCHES, {batch_id: self._client.incr(BATCH_TURN)}, xx=True)

    def claim_folder(self, batch: LiveBatch, folder: str) -> str:
        """Claim a folder for a batch. Return '' if the batch has it now, else the id of the live batch that has it."""
        path = f"{batch.options.store}:{folder}"
        with broker_errors():
            self._client.hsetnx(BATCH_FOLDERS, path, batch.id)
            owner = (self._client.hget(BATCH_FOLDERS, path) or b"").decode()
            if owner == batch.id:
                return ""
            if self._client.zscore(LIVE_BATCHES, owner) is None:
                # The batch that had it is not live any more.
                self._client.hset(BATCH_FOLDERS, path, batch.id)
                return ""
        return owner

    def release_folder(self, batch: LiveBatch) -> None:
        """Release a batch's claim on its folder."""
        path = f"{batch.options.store}:{batch.folder}"
        with broker_errors():
            if (self._client.hget(BATCH_FOLDERS, path) or b"").decode() == batch.id:
                self._client.hdel(BATCH_FOLDERS, path)


def _parse_batch(batch_id: str, fields: Mapping[str, bytes | None]) -> LiveBatch:
    def text(name: str) -> str:
        return (fields[name] or b"").decode()

    def number(name: str) -> int:
        return int(fields[name] or 0)

    return LiveBatch(
        id=batch_id,
        options=BatchOptions.from_json(text("terms")),
        state=text("state"),
        owner=text("owner"),
        name=text("name"),
        key=text("key"),
        schedule=text("schedule"),
        folder=text("folder"),
        reason=text("reason"),
        paused_by=text("paused_by"),
        entropy=text("entropy"),
        prompts=json.loads(text("prompts") or "[]"),
        useless_answers=number("asked"),
        planned=bool(number("planned")),
        states_to_retry=tuple(filter(None, text("again").split(","))),
        next_to_verify=number("verify"),
        total=number("total"),
        submitted_ms=number("submitted_ms"),
        started_from_ms=number("started_from_ms"),
        started_ms=number("started_ms"),
        finished_ms=number("finished_ms"),
    )
