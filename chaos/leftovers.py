"""What must not be in the broker when all work has ended: the one list of these keys, for every audit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from graycat.queue.topology import QUEUES

#: Patterns of keys that hold something only while work is under way, and what is said of each.
PLACES = {
    rf"({'|'.join(map(re.escape, QUEUES))})(:.*)?": r"queue \1",
    r"unacked:(\w+)": r"unacknowledged \1",
    r"unacked_index:(\w+)": r"leases of messages \1",
    r"graycat:live\.(\w+)": r"live tasks \1",
    r"graycat:live\.(\w+):.*": r"live tasks of owners \1",
    r"graycat:turns\.(\w+)": r"turns \1",
    r"graycat:usage:uncounted": "tasks not counted",
    r"graycat:batches:live": "live batches",
    r"graycat:batches:folders": "folders of batches",
    r"graycat:paused": "paused queues",
    r"graycat:hooks": "webhooks",
    r"graycat:deliveries": "deliveries of webhooks",
    r"graycat:quarantine\.(\w+)": r"quarantine \1",
    r"graycat:(turn|aside|players)\..*": r"keys \1.*",
    r"graycat:(owners|wrong-type|changed|receiver|sender):.*": r"keys \1:*",
    r"graycat:schedule:.*:waiting": "keys schedule:*:waiting",
    # A counter: it stays for a while if it is 0. That of messages whose tasks have ended (``dead:``) is left out: such
    # a message may be lost with a worker, so graycat never takes it for more than its queue is long. ``chaos.life``
    # checks it.
    r"graycat:asides:(.*)": r"parked tasks \1",
}
COUNTERS = re.compile(r"graycat:asides:.*")
_PLACES = [(re.compile(pattern), name) for pattern, name in PLACES.items()]


@dataclass(frozen=True, slots=True)
class Leftover:
    """A key that should be empty. ``name``: what it is, the same for all keys of a kind."""

    key: str
    name: str
    count: int


def name_of(key: str) -> str:
    """Return what a key holds that must be empty when nothing is under way; '' if it may hold something."""
    for pattern, name in _PLACES:
        found = pattern.fullmatch(key)
        if found:
            return found.expand(name)
    return ""


def find_leftovers(broker: Any) -> Iterator[Leftover]:
    """Yield what is left in a broker (a client that decodes)."""
    names = {key: name for key in broker.scan_iter(count=1000) if (name := name_of(key))}
    with broker.pipeline(transaction=False) as pipe:
        for key in names:
            pipe.type(key)
        types = pipe.execute()
        for key, kind in zip(names, types, strict=True):
            count_items(pipe, key, kind)
        counts = pipe.execute(raise_on_error=False)
    for (key, name), found in zip(names.items(), counts, strict=True):
        count = 1
        if isinstance(found, int):
            count = found
        elif COUNTERS.fullmatch(key):
            count = int(found or 0)
        if count:
            yield Leftover(key, name, count)


def count_items(client: Any, key: str, kind: str) -> None:
    """Ask how many items a key of a type has; of a counter, its value."""
    counts = {"list": client.llen, "hash": client.hlen, "set": client.scard, "zset": client.zcard, "string": client.get}
    # Whatever else is there, or is gone by now.
    counts.get(kind, client.exists)(key)
