"""Deliveries to webhooks: which are due, who sends one just now, and how every attempt went.

The scripts that write a task's start or end add its deliveries in the same breath (``queue/lua/conclude.lua``). From
then on a delivery lives by itself: a hash with what is to be told, and a place among the due ones. It is *enqueued*
when it is due, *begun* by an attempt that holds it for a while, and *settled* by that attempt; whoever dies in between
leaves it to be due again, so a receiver may be told twice, with the same id.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graycat.broker.client import broker_errors, now_ms
from graycat.broker.keys import DELIVERIES, delivery_key, receiver_key, sender_key
from graycat.broker.protocol import Broker
from graycat.broker.scripts import Scripts
from graycat.webhooks.webhook import EVENTS, Webhook

#: A delivery that was enqueued and not begun after this many milliseconds is enqueued again.
ENQUEUED_MS = 60_000
#: An attempt that has not been settled after this many milliseconds has died: longer than one may take.
HELD_MS = 15_000
#: A delivery whose receiver or owner has as many under way as it may is looked at again after this long.
PUT_OFF_MS = (1000, 3000)
#: Deliveries under way at once to one host, and for one API token: both leave threads to others.
MAX_AT_HOST, MAX_FOR_OWNER = 4, 12

PENDING, DELIVERED, FAILED = "pending", "delivered", "failed"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt's hold on a delivery. ``fields``: what is kept of the task."""

    task_id: str
    event: str
    attempt: int
    owner: str
    event_ms: int
    webhook: Webhook
    fields: dict[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """How an attempt went: a status, or a word for why there is none. ``next_ms``: None where it was the last."""

    at_ms: int
    status: int | None
    error: str | None
    next_ms: int | None

    @property
    def state(self) -> str:
        """Return what the delivery is after it."""
        if self.status is not None and 200 <= self.status < 300:
            return DELIVERED
        return FAILED if self.next_ms is None else PENDING

    def encoded(self) -> str:
        """Return what the delivery keeps of it."""
        told = {"status": self.status} if self.status is not None else {"error": self.error}
        return json.dumps({"at_ms": self.at_ms, **told, "next_ms": self.next_ms})


class Deliveries:
    """The deliveries in the broker. Times are milliseconds of the broker's own clock, which ``now_ms`` tells."""

    def __init__(self, client: Broker) -> None:
        self._client = client
        self._scripts = Scripts(client, Path(__file__).parent / "lua", ("enqueue", "begin", "settle"))

    def now_ms(self) -> int:
        """Return the broker's time."""
        return now_ms(self._client)

    def due(self, now_ms: int, most: int) -> dict[str, list[str]]:
        """Return deliveries that are due (``TASK_ID EVENT``), longest due first, each with the places it will take."""
        with broker_errors():
            found = self._client.zrange(DELIVERIES, "-inf", now_ms, byscore=True, offset=0, num=most)
            members = [member.decode() for member in found]
            with self._client.pipeline(transaction=False) as pipe:
                for member in members:
                    pipe.hmget(delivery_key(*member.split(" ")), ("webhook", "owner"))
                rows = pipe.execute()
        # One whose hash is gone takes none: enqueueing it takes it off the list.
        places = [_places(Webhook.from_record(webhook), owner.decode()) if webhook else [] for webhook, owner in rows]
        return dict(zip(members, places, strict=True))

    def enqueue(self, member: str, places: Iterable[str], now_ms: int, queue: str, message: bytes) -> bool:
        """Put a due delivery on a queue; False where another has done so, it is over, or one of its places is full."""
        keys = [DELIVERIES, delivery_key(*member.split(" ")), queue, *places]
        put_off_ms = random.randint(*PUT_OFF_MS)  # noqa: S311 (no secret)
        limits = (MAX_AT_HOST, MAX_FOR_OWNER)
        return bool(self._run("enqueue", keys, (member, now_ms, ENQUEUED_MS, put_off_ms, message, *limits)) == 1)

    def begin(self, task_id: str, event: str, now_ms: int) -> Delivery | None:
        """Start an attempt; None where there is nothing to do, or another attempt is at it."""
        keys = [DELIVERIES, delivery_key(task_id, event)]
        found = self._run("begin", keys, (f"{task_id} {event}", now_ms, HELD_MS))
        if found is None:
            return None
        items = [item.decode() for item in found]
        fields = dict(zip(items[::2], items[1::2], strict=True))
        webhook = Webhook.from_record(fields.pop("webhook"))
        attempt, event_ms = int(fields["attempts"]), int(fields["event_ms"])
        return Delivery(task_id, event, attempt, fields["owner"], event_ms, webhook, fields)

    def settle(self, delivery: Delivery, outcome: DeliveryAttempt) -> bool:
        """Write how an attempt went; False where another attempt has taken over."""
        key = delivery_key(delivery.task_id, delivery.event)
        keys = [DELIVERIES, key, *_places(delivery.webhook, delivery.owner)]
        next_ms = "" if outcome.next_ms is None else outcome.next_ms
        member = f"{delivery.task_id} {delivery.event}"
        arguments = (member, delivery.attempt, outcome.state, next_ms, outcome.encoded())
        return bool(self._run("settle", keys, arguments))

    def summary(self, task_id: str) -> list[dict[str, Any]]:
        """Return how the deliveries of a task went so far, as its owner sees them; empty where there are none."""
        with broker_errors(), self._client.pipeline(transaction=False) as pipe:
            for event in EVENTS:
                pipe.hgetall(delivery_key(task_id, event))
            rows = pipe.execute()
        return [_shown(event, row) for event, row in zip(EVENTS, rows, strict=True) if row]

    def _run(self, name: str, keys: list[str], arguments: tuple[str | int | bytes, ...]) -> Any:
        with broker_errors():
            return self._scripts.run(name, keys, arguments)


def _places(webhook: Webhook, owner: str) -> list[str]:
    return [receiver_key(webhook.target.host), sender_key(owner)]


def _shown(event: str, row: dict[bytes, bytes]) -> dict[str, Any]:
    fields = {name.decode(): value.decode() for name, value in row.items()}
    attempts = int(fields["attempts"])
    # One that died before it was settled has left nothing.
    tries = [json.loads(text) for n in range(1, attempts + 1) if (text := fields.get(f"try:{n}"))]
    last = tries[-1] if tries else {}
    return {
        "event": event,
        "state": fields["state"],
        "attempts": attempts,
        "last_status": last.get("status"),
        "last_error": last.get("error"),
        "next_ms": int(fields["next_ms"]) if fields["next_ms"] else None,
        "tries": tries,
    }
