"""Deliveries to webhooks in the broker: which are due, which attempt has one now, and how each attempt ended.

Only home makes them: of a task when it has looked at its record (``hooks.py``), of a batch with its end
(``batches/lua/end.lua``). From then on a delivery needs no record: it is a hash with what the receiver gets, and an
entry in the list of due deliveries. A delivery is *enqueued* when it is due, *begun* by an attempt that holds it for a
while, and *settled* by that attempt. If the attempt's worker dies in between, the delivery is due again, so a receiver
may get it twice, with the same id.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from graycat.bounds.stored import parse_json
from graycat.broker.client import broker_errors, is_unusable_key, now_ms
from graycat.broker.keys import DELIVERIES, delivery_key, receiver_key, sender_key
from graycat.broker.protocol import Broker
from graycat.broker.quarantine import Quarantine, set_aside_key
from graycat.broker.scripts import Scripts
from graycat.broker.wrong_types import move_aside, named_key
from graycat.errors import BrokerUnavailable
from graycat.loops.unexpected import guarded
from graycat.webhooks.webhook import EVENTS, Webhook

#: A delivery that was enqueued and not begun within this many milliseconds is enqueued again.
BEGIN_TIMEOUT_MS = 60_000
#: Milliseconds that an attempt holds a delivery: longer than an attempt may take.
HOLD_MS = 15_000
#: A delivery waits so many milliseconds (from, to) if its receiver or owner has all its slots taken.
RETRY_DELAY_MS = (1000, 3000)
#: How many deliveries to one host may be under way at once. This leaves threads to other receivers.
MAX_PER_HOST = 4
#: How many deliveries for one API token may be under way at once. This leaves threads to other owners.
MAX_PER_OWNER = 12

PENDING, DELIVERED, FAILED = "pending", "delivered", "failed"
#: The error of a delivery that an operator has revoked.
REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Delivery:
    """An attempt's hold on a delivery. ``fields``: what the hash has stored of the task."""

    task_id: str
    event: str
    #: The number of the attempt.
    attempt: int
    owner: str
    event_ms: int
    webhook: Webhook
    fields: dict[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """How an attempt ended: with an HTTP status, or with an error. ``next_ms``: None if it was the last attempt."""

    at_ms: int
    status: int | None
    error: str | None
    next_ms: int | None

    @property
    def state(self) -> str:
        """Return the state of the delivery after the attempt."""
        if self.status is not None and 200 <= self.status < 300:
            return DELIVERED
        if self.next_ms is None:
            return FAILED
        return PENDING

    def to_json(self) -> str:
        """Return the attempt as the delivery stores it."""
        values: dict[str, Any] = {"at_ms": self.at_ms}
        if self.status is not None:
            values["status"] = self.status
        else:
            values["error"] = self.error
        values["next_ms"] = self.next_ms
        return json.dumps(values)


class Deliveries:
    """The deliveries in the broker. Times are milliseconds of the broker's clock, which ``now_ms`` returns."""

    def __init__(self, client: Broker) -> None:
        self._client = client
        self._scripts = Scripts(client, Path(__file__).parent / "lua", ("enqueue", "begin", "settle", "give_up"))

    def now_ms(self) -> int:
        """Return the broker's time."""
        return now_ms(self._client)

    def list_due(self, now_ms: int, limit: int) -> dict[str, list[str]]:
        """Return due deliveries (``TASK_ID EVENT``), the longest due first, and the keys of the slots that each needs.

        A delivery whose hash is gone needs no slots. ``enqueue`` removes it from the list.
        """
        with broker_errors():
            members = self._read_due(now_ms, limit)
            with self._client.pipeline(transaction=False) as pipe:
                for member in members:
                    pipe.hmget(_member_key(member.decode(errors="replace")), ("webhook", "owner"))
                rows = pipe.execute(raise_on_error=False)

        slots: dict[str, list[str]] = {}
        for member, row in zip(members, rows, strict=True):
            with self.guard("dispatcher", member), broker_errors():
                slots[member.decode()] = _parse_slots(row)
        return slots

    def _read_due(self, now_ms: int, limit: int) -> list[bytes]:
        try:
            return self._client.zrange(DELIVERIES, "-inf", now_ms, byscore=True, offset=0, num=limit)
        except redis.ResponseError as error:
            if is_unusable_key(error):
                # Otherwise no task with a webhook could end.
                set_aside_key(self._client, "dispatcher", DELIVERIES, "zset")
            return []

    def guard(self, where: str, member: str | bytes) -> AbstractContextManager[None]:
        """Run a block that works on one delivery; if it raises, the delivery is set aside and the others go on.

        ``where``: the loop. BrokerUnavailable is let through.
        """
        return guarded(
            where, let_through=(BrokerUnavailable,), set_aside=lambda reason: self._set_aside(where, member, reason)
        )

    def _set_aside(self, where: str, member: str | bytes, reason: str) -> None:
        """Take a delivery that cannot be used off the list; its name goes into the quarantine."""
        if isinstance(member, str):
            member = member.encode()
        with broker_errors():
            self._client.zrem(DELIVERIES, member)
        Quarantine(self._client).put(where, member, reason)

    def enqueue(self, member: str, slots: Iterable[str], now_ms: int, queue: str, message: bytes) -> bool:
        """Put a due delivery on a queue, and take its slots.

        Returns False if another process has enqueued it, if it is over, or if one of its slots is not free.
        """
        keys = [DELIVERIES, _member_key(member), queue, *slots]
        delay_ms = random.randint(*RETRY_DELAY_MS)  # noqa: S311 (no secret)
        arguments = (member, now_ms, BEGIN_TIMEOUT_MS, delay_ms, message, MAX_PER_HOST, MAX_PER_OWNER)
        return bool(self._run("enqueue", keys, arguments) == 1)

    def begin(self, task_id: str, event: str, now_ms: int) -> Delivery | None:
        """Begin an attempt; return None if the delivery is over, not due, or held by another attempt."""
        keys = [DELIVERIES, delivery_key(task_id, event)]
        reply = self._run("begin", keys, (f"{task_id} {event}", now_ms, HOLD_MS))
        if reply is None:
            return None
        values = list(map(bytes.decode, reply))
        fields = dict(zip(values[::2], values[1::2], strict=True))
        webhook = Webhook.from_json(fields.pop("webhook"))
        return Delivery(
            task_id=task_id,
            event=event,
            attempt=int(fields["attempts"]),
            owner=fields["owner"],
            event_ms=int(fields["event_ms"]),
            webhook=webhook,
            fields=fields,
        )

    def settle(self, delivery: Delivery, attempt: DeliveryAttempt) -> bool:
        """Write how an attempt ended, and free its slots; return False if another attempt has taken over."""
        key = delivery_key(delivery.task_id, delivery.event)
        keys = [DELIVERIES, key, *_slot_keys(delivery.webhook, delivery.owner)]
        next_ms = "" if attempt.next_ms is None else attempt.next_ms
        member = f"{delivery.task_id} {delivery.event}"
        arguments = (member, delivery.attempt, attempt.state, next_ms, attempt.to_json())
        return bool(self._run("settle", keys, arguments))

    def give_up(self, task_id: str, event: str, now_ms: int) -> bool:
        """End a pending delivery as failed: it is not sent (again). Return False if there is none.

        An attempt that is under way goes on; how it ends is not noted.
        """
        key = delivery_key(task_id, event)
        with broker_errors():
            webhook, owner = self._client.hmget(key, ("webhook", "owner"))
        if not webhook:
            return False
        keys = [DELIVERIES, key, *_slot_keys(Webhook.from_json(webhook), (owner or b"").decode())]
        attempt = DeliveryAttempt(now_ms, None, REVOKED, None)
        return bool(self._run("give_up", keys, (f"{task_id} {event}", attempt.state, attempt.to_json())))

    def summarize(self, task_id: str) -> list[dict[str, Any]]:
        """Return the deliveries of a task or a batch as its owner sees them; an empty list if there are none."""
        with broker_errors(), self._client.pipeline(transaction=False) as pipe:
            for event in EVENTS:
                pipe.hgetall(delivery_key(task_id, event))
            rows = pipe.execute()
        return [_summarize(event, row) for event, row in zip(EVENTS, rows, strict=True) if row]

    def _run(self, name: str, keys: list[str], arguments: tuple[str | int | bytes, ...]) -> Any:
        with broker_errors():
            try:
                return self._scripts.run(name, keys, arguments)
            except redis.ResponseError as error:
                # Another program has written over the slots of a receiver or an owner: no delivery is lost by that.
                if not move_aside(self._client, named_key(error)):
                    raise
                return self._scripts.run(name, keys, arguments)


def _member_key(member: str) -> str:
    """Return the key of a delivery that is listed as ``TASK_ID EVENT``."""
    task_id, _, event = member.partition(" ")
    return delivery_key(task_id, event)


def _parse_slots(row: list[bytes | None] | Exception) -> list[str]:
    """Return the keys of the slots that a delivery needs; none if its hash is gone. Raises an error of any type."""
    if isinstance(row, Exception):
        raise row
    webhook, owner = row
    if webhook is None:
        return []
    return _slot_keys(Webhook.from_json(webhook), (owner or b"").decode())


def _slot_keys(webhook: Webhook, owner: str) -> list[str]:
    return [receiver_key(webhook.target.host), sender_key(owner)]


def _summarize(event: str, row: dict[bytes, bytes]) -> dict[str, Any]:
    fields = {name.decode(): value.decode() for name, value in row.items()}
    attempts = int(fields["attempts"])
    settled = []
    for number in range(1, attempts + 1):
        # An attempt whose worker died has written nothing.
        if f"try:{number}" in fields:
            settled.append(parse_json(fields[f"try:{number}"]))
    last = settled[-1] if settled else {}
    return {
        "event": event,
        "state": fields["state"],
        "attempts": attempts,
        "last_status": last.get("status"),
        "last_error": last.get("error"),
        "next_ms": int(fields["next_ms"]) if fields["next_ms"] else None,
        "tries": settled,
    }
