"""Live batches: those that the control worker still has work with. All are loaded in one round trip at every step."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from graycat.batches.errors import BatchNotFound
from graycat.batches.spec.options import BatchOptions
from graycat.batches.states import ENDED, STATES, part_keys
from graycat.bounds.stored import parse_json
from graycat.broker.client import broker_errors, now_ms
from graycat.broker.keys import BATCH_FOLDERS, BATCH_TURN, BATCHES, LIVE_BATCHES, batch_key
from graycat.broker.protocol import Broker
from graycat.broker.quarantine import TTL_S, Quarantine
from graycat.broker.scripts import Scripts
from graycat.errors import BrokerUnavailable
from graycat.loops.unexpected import guarded

logger = logging.getLogger(__name__)

#: Fields of a batch's record that every step needs.
_FIELDS = (
    *("terms", "state", "owner", "name", "key", "schedule", "folder", "reason", "paused_by", "entropy", "prompts"),
    *("again", "total", "submitted_ms", "started_from_ms", "started_ms", "finished_ms", "verify", "planned", "asked"),
)
#: How many of all batches one call of ``relist`` looks at.
MAX_RELISTED = 1000


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
        self._scripts = Scripts(client, Path(__file__).parent / "lua", ("relist",))
        #: The first of all batches that the next ``relist`` looks at.
        self._next = 0

    def load_all(self) -> list[LiveBatch]:
        """Return the live batches, in the order of their turns. Those that cannot be read are abandoned."""
        with broker_errors():
            members = self._client.zrange(LIVE_BATCHES, 0, -1)
            with self._client.pipeline(transaction=False) as pipe:
                for member in members:
                    pipe.hmget(batch_key(_decode(member)), _FIELDS)
                rows = pipe.execute(raise_on_error=False)

        batches = []
        for member, row in zip(members, rows, strict=True):
            with guarded(
                "live batches",
                let_through=(BrokerUnavailable,),
                set_aside=lambda reason, member=member: self.abandon(member, reason),  # type: ignore[misc]
            ):
                batch = self._read(member, row)
                if batch is not None:
                    batches.append(batch)
        return batches

    def relist(self) -> list[str]:
        """Put batches back that have not ended and are not among the live ones; return their ids.

        Another program has deleted the set, or written over it. Looks at the next ``MAX_RELISTED`` of all batches.
        """
        with broker_errors():
            seen, *put_back = self._scripts.run(
                "relist", (LIVE_BATCHES, BATCHES), (batch_key(""), self._next, MAX_RELISTED)
            )
        self._next += MAX_RELISTED
        if seen < MAX_RELISTED:
            self._next = 0
        ids = [_decode(batch_id) for batch_id in put_back]
        for batch_id in ids:
            logger.warning("batch was missing among the live ones", extra={"batch_id": batch_id})
        return ids

    def _read(self, member: bytes, row: list[bytes | None] | Exception) -> LiveBatch | None:
        """Return a live batch; None if its record has expired. Raises an error of any type if it cannot be read."""
        with broker_errors():
            if isinstance(row, Exception):
                raise row
            if not any(row):
                # No other process removes it from the set.
                self._client.zrem(LIVE_BATCHES, member)
                return None
        return _parse_batch(member.decode(), dict(zip(_FIELDS, row, strict=True)))

    def abandon(self, member: bytes, reason: str) -> None:
        """Take a batch that cannot be worked on off the live batches; what is left of it goes into the quarantine.

        Its keys are deleted as late as the item in the quarantine. ``reason``: the type of the error.
        """
        batch_id = _decode(member)
        key = batch_key(batch_id)
        with broker_errors():
            self._client.zrem(LIVE_BATCHES, member)
            record = self._load_record(key)
            if record and _decode(record.get(b"state", b"")) not in ENDED:
                text = f"graycat cannot work on it: its record in the broker is damaged ({reason})"
                now = now_ms(self._client)
                ended: dict[str, str | int] = {"state": "failed", "reason": text, "finished_ms": now}
                self._client.hset(key, mapping=ended)
            with self._client.pipeline(transaction=False) as pipe:
                for name in (key, *part_keys(batch_id)):
                    pipe.pexpire(name, TTL_S * 1000)
                pipe.execute()
        data = {_decode(name): _decode(value) for name, value in record.items()}
        Quarantine(self._client).put(f"batch {batch_id}", json.dumps(data).encode(), reason)
        logger.error("batch abandoned", extra={"batch_id": batch_id, "error": reason})

    def _load_record(self, key: str) -> dict[bytes, bytes]:
        try:
            with broker_errors():
                return self._client.hgetall(key)
        except redis.ResponseError:
            # It is no hash.
            return {}

    def load_document(self, batch_id: str) -> dict[str, Any]:
        """Return a batch's spec as its caller wrote it. Raises BatchNotFound."""
        with broker_errors():
            text = self._client.hget(batch_key(batch_id), "document")
        if text is None:
            raise BatchNotFound
        document: dict[str, Any] = parse_json(text)
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


def _decode(data: bytes) -> str:
    return data.decode(errors="backslashreplace")


def _parse_batch(batch_id: str, fields: Mapping[str, bytes | None]) -> LiveBatch:
    """Return the batch that a record holds. Raises an error of any type for one that nothing can be done with."""

    def text(name: str) -> str:
        return (fields[name] or b"").decode()

    def number(name: str) -> int:
        return int(fields[name] or 0)

    if text("state") not in STATES:
        # Nothing would be done with it, and it would be live for ever.
        raise ValueError("the batch has no state")
    prompts = parse_json(text("prompts") or "[]")
    if not isinstance(prompts, list):
        raise TypeError("the batch's prompts are no list")
    options = BatchOptions.from_json(text("terms"))
    options.parse_window()
    return LiveBatch(
        id=batch_id,
        options=options,
        state=text("state"),
        owner=text("owner"),
        name=text("name"),
        key=text("key"),
        schedule=text("schedule"),
        folder=text("folder"),
        reason=text("reason"),
        paused_by=text("paused_by"),
        entropy=text("entropy"),
        prompts=prompts,
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
