"""Bounds what boxes hold in the broker: the control worker beside it looks at the keys that they may write.

A box may leave out a lifetime that every worker of graycat sets, and write more than any of them does. What has no
lifetime gets one here; what is far larger than anything of graycat's is deleted, and a sweeper enqueues the tasks again
whose messages were in it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from graycat.broker import keys
from graycat.broker.client import broker_errors
from graycat.broker.protocol import Broker
from graycat.families import FAMILIES
from graycat.queue.redelivery import unacked_keys

logger = logging.getLogger(__name__)

#: Roughly how many keys one step looks at: each thousand costs the control worker 14 ms a second, and the broker 5.
KEYS_PER_STEP = 1000
_KIB, _MIB = 1024, 1024 * 1024
_SECOND, _HOUR, _DAY = 1000, 3600 * 1000, 24 * 3600 * 1000
#: What PTTL replies for a key that never expires.
_NO_EXPIRY = -1


class Bound(NamedTuple):
    """The lifetime (ms) that a key gets if it has none, 0 for none; and the most bytes of memory that it may take."""

    lifetime_ms: int
    most_bytes: int


#: By what the name of a key begins with, behind the prefix.
BOUNDS = {
    "task:": Bound(_HOUR, 256 * _MIB),
    "events:": Bound(_HOUR, 512 * _MIB),
    "artifact:": Bound(_HOUR, 256 * _MIB),
    "artifacts:": Bound(_HOUR, 16 * _MIB),
    "preview:": Bound(60 * _SECOND, 64 * _MIB),
    "worker:": Bound(6 * _SECOND, 4 * _MIB),
    "catalog:": Bound(6 * _SECOND, 64 * _MIB),
    # The sweeper makes what is missing of these anew.
    "turn.": Bound(_DAY, 4 * _KIB),
    "asides:": Bound(7 * _DAY, 4 * _KIB),
    "dead:": Bound(7 * _DAY, 4 * _KIB),
    "owners:": Bound(0, 16 * _MIB),
    "means.": Bound(0, 64 * _KIB),
    "fleet.": Bound(0, 4 * _MIB),
    "failures.": Bound(7 * _DAY, 4 * _MIB),
    "quarantine.": Bound(7 * _DAY, 4 * _MIB),
    "changed:": Bound(_DAY, 64 * _MIB),
    "sweeping:": Bound(10 * _SECOND, 4 * _KIB),
}
#: The queues of families, with those of models and workers: a message has a kilobyte.
QUEUE = Bound(0, 256 * _MIB)
#: What workers have in hand, and the deadlines of that; and the lock of those that put it back.
UNACKED, MUTEX = Bound(0, 256 * _MIB), Bound(10 * _SECOND, 4 * _KIB)
#: Replies to remote control; an operator waits for seconds.
REPLIES = Bound(_HOUR, 4 * _MIB)
_REPLIES_END = ".reply.celery.pidbox"
#: By what the name of a key of kombu's begins with, up to the first colon.
CELERY_BOUNDS = {"unacked": UNACKED, "unacked_index": UNACKED, "unacked_mutex": MUTEX}
for _family in FAMILIES:
    CELERY_BOUNDS |= dict.fromkeys(_family.queues, QUEUE)


class BoxKeys:
    """Goes through all keys of the broker step by step. Its user may do everything there."""

    def __init__(self, client: Broker) -> None:
        self._client = client
        self._cursor = 0

    def step(self) -> None:
        """Look at what all boxes share, and at some more of the other keys. Raises BrokerUnavailable."""
        with broker_errors():
            with self._client.pipeline(transaction=False) as pipe:
                pipe.scan(self._cursor, match="*", count=KEYS_PER_STEP)
                ((self._cursor, names),) = pipe.execute()
            bounds: dict[bytes, Bound] = {}
            for name in (*names, *_shared_keys()):
                bound = bound_of(name.decode(errors="replace"))
                if bound is not None:
                    bounds[name] = bound
            self._apply(bounds)

    def _apply(self, bounds: dict[bytes, Bound]) -> None:
        with self._client.pipeline(transaction=False) as pipe:
            for name in bounds:
                pipe.pttl(name)
                pipe.memory_usage(name)
            replies = pipe.execute()
            too_large = []
            for (name, bound), left_ms, size in zip(bounds.items(), replies[::2], replies[1::2], strict=True):
                if (size or 0) > bound.most_bytes:
                    too_large.append(name)
                elif left_ms == _NO_EXPIRY and bound.lifetime_ms:
                    pipe.pexpire(name, bound.lifetime_ms)
            pipe.execute()
        self._delete(too_large)

    def _delete(self, names: Sequence[bytes]) -> None:
        if not names:
            return
        # Freed beside the broker's own work: it may be much.
        self._client.execute_command("UNLINK", *names)
        for name in names[:10]:
            logger.error("key deleted: larger than any of graycat's", extra={"key": repr(name[:100])})


def _shared_keys() -> Iterable[bytes]:
    """Return the keys that all workers of a family write: each look takes them, whatever else there is."""
    for family in FAMILIES:
        for make in (keys.means_key, keys.fleet_key, keys.failures_key, keys.quarantine_key, keys.changed_key):
            yield make(family.name).encode()
        for queue in family.queues:
            yield queue.encode()
            yield keys.owners_key(queue).encode()
        for kind in family.worker_kinds:
            for name in unacked_keys(kind).values():
                yield name.encode()


def bound_of(name: str) -> Bound | None:
    """Return the bound of a key; None if no box may write it."""
    if name.startswith(keys.PREFIX):
        rest = name.removeprefix(keys.PREFIX)
        return BOUNDS.get(rest.partition(":")[0] + ":") or BOUNDS.get(rest.partition(".")[0] + ".")
    if name.endswith(_REPLIES_END):
        return REPLIES
    return CELERY_BOUNDS.get(name.partition(":")[0])
