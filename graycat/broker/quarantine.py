"""The quarantine: items that no loop could use, kept for an operator to look at."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graycat.bounds.stored import parse_json
from graycat.broker.client import broker_errors, now_ms
from graycat.broker.keys import HOME, SHARES, quarantine_key, wrong_type_key
from graycat.broker.protocol import Broker
from graycat.loops.unexpected import UNEXPECTED

logger = logging.getLogger(__name__)

#: The newest items are kept, each with its first bytes, for this long.
MAX_ITEMS = 100
MAX_DATA_BYTES = 4096
TTL_S = 7 * 24 * 3600


def set_aside_key(client: Any, where: str, key: str, wanted: str) -> bool:
    """Rename a key of another type than wanted, which another program has written: each command on it would fail.

    Returns whether it was renamed. ``wanted``: the type, in the words of the command TYPE. Raises what redis-py raises.
    """
    if client.type(key) in (wanted.encode(), b"none"):
        return False
    logger.error("key of the wrong type set aside", extra={"key": key})
    UNEXPECTED.labels(where).inc()
    client.rename(key, wrong_type_key(key))
    client.pexpire(wrong_type_key(key), TTL_S * 1000)
    return True


@dataclass(frozen=True, slots=True)
class QuarantinedItem:
    """One item: when it was set aside, by which loop, why (the type of an error), and how many bytes it had."""

    at_ms: int
    where: str
    reason: str
    size: int


class Quarantine:
    """The quarantine in the broker."""

    def __init__(self, client: Broker, share: str = HOME) -> None:
        """``share``: where items are put, one of ``keys.SHARES``; a worker of a family may write its own alone."""
        self._client = client
        self._key = quarantine_key(share)

    def put(self, where: str, data: bytes, reason: str) -> None:
        """Keep an item. Raises BrokerUnavailable."""
        with broker_errors():
            item = {
                "at_ms": now_ms(self._client),
                "where": where,
                "reason": reason,
                "size": len(data),
                # Only for a look by hand: nothing of graycat reads it.
                "data": base64.b64encode(data[:MAX_DATA_BYTES]).decode(),
            }
            with self._client.pipeline(transaction=True) as pipe:
                pipe.lpush(self._key, json.dumps(item))
                pipe.ltrim(self._key, 0, MAX_ITEMS - 1)
                pipe.pexpire(self._key, TTL_S * 1000)
                pipe.execute()

    def items(self, count: int = MAX_ITEMS, shares: Sequence[str] = SHARES) -> list[QuarantinedItem]:
        """Return what was set aside, the newest first, without its content. Raises BrokerUnavailable."""
        items = []
        with broker_errors():
            for share in shares:
                rows = self._client.lrange(quarantine_key(share), 0, count - 1)
                items += [item for item in map(_read, rows) if item is not None]
        items.sort(key=lambda item: item.at_ms, reverse=True)
        return items[:count]


def _read(row: bytes) -> QuarantinedItem | None:
    try:
        values = parse_json(row)
        return QuarantinedItem(int(values["at_ms"]), str(values["where"]), str(values["reason"]), int(values["size"]))
    except (ValueError, TypeError, KeyError, OverflowError):
        # Written by hand, or by another version.
        return None
