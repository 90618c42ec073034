"""What a backup holds: the keys whose loss somebody would notice, and none that says what lives just now.

Locks, leases of beat, reports of workers, previews and rate windows are true for seconds. Restored later they would be
ghosts, so they stay out, and a restore deletes those that it finds.
"""

from __future__ import annotations

from collections.abc import Iterable

from graycat.broker import keys
from graycat.queue.redelivery import unacked_keys
from graycat.queue.topology import CONTROL, QUEUES, WORKER_KINDS

#: Where a restore puts keys until all are there, and where it notes the backup that was restored last.
STAGING = f"{keys.PREFIX}restore:"
RESTORED = f"{keys.PREFIX}restored"

TOKENS, SCHEDULES, BATCHES, TASKS = "API tokens", "schedules", "batches", "tasks"
MESSAGES, IMAGES, DELIVERIES, USAGE = "queued messages", "images", "deliveries", "days of usage"
OTHERS = "other keys"
#: What is kept, by what the name of a key begins with behind the prefix, and under which word it is counted.
KEPT = {
    "tokens": TOKENS,
    "schedules": SCHEDULES,
    "schedule:": SCHEDULES,
    "batches": BATCHES,
    "batch:": BATCHES,
    "task:": TASKS,
    "events:": TASKS,
    "live": TASKS,
    "players.": TASKS,
    "listed:": TASKS,
    "turn": TASKS,
    "aside": TASKS,
    "owners:": TASKS,
    "dead:": TASKS,
    "changed:": TASKS,
    "stored": TASKS,
    "means": TASKS,
    "artifact": IMAGES,
    "deliver": DELIVERIES,
    "hook": DELIVERIES,
    "usage:": USAGE,
    "paused": OTHERS,
    "failures": OTHERS,
    "quarantine": OTHERS,
}
#: What is left out: it says what is alive or under way just now, or belongs to another program.
DROPPED = (
    # Beat makes its entries and its lock anew.
    "beat:",
    # Locks.
    "schedules:firing",
    "batches:feeding",
    "sweeping:",
    # What workers and machines have reported in the last seconds, and what an image under way looks like.
    "worker:",
    "fleet",
    "catalog:",
    "processes",
    "preview:",
    # How many workers were needed in the last minutes.
    "needs.",
    # Requests of the last minute, and slots of deliveries under way.
    "rate:",
    "receiver:",
    "sender:",
    # Keys of other programs, moved aside.
    "wrong-type:",
    # A restore's own.
    "restore:",
    "restored",
)
#: Messages of the control worker repeat what lies in the records of deliveries and schedules: they come again.
_QUEUES = frozenset(QUEUES) - {CONTROL}


def _list_held() -> frozenset[str]:
    """Return the keys of the messages that workers have in hand, but for the locks of those that put them back."""
    names = set()
    for kind in ("", *WORKER_KINDS):
        if kind != CONTROL:
            found = unacked_keys(kind)
            names |= {found["unacked_key"], found["unacked_index_key"]}
    return frozenset(names)


_HELD = _list_held()


def kind_of(name: str) -> str | None:
    """Return the word under which a key of a backup is counted; None if no backup holds it."""
    if not name.startswith(keys.PREFIX):
        if name in _HELD or name.partition(":")[0] in _QUEUES:
            return MESSAGES
        return None
    rest = name.removeprefix(keys.PREFIX)
    if rest.startswith(DROPPED):
        return None
    for start, kind in KEPT.items():
        if rest.startswith(start):
            return kind
    # Of a release that knows more: it is graycat's all the same.
    return OTHERS


#: The keys whose entries are counted, each under its word: its type's command is HLEN, SCARD, ZCARD or LLEN.
_COUNTED = {keys.API_TOKENS: TOKENS, keys.SCHEDULES: SCHEDULES, keys.BATCHES: BATCHES}
#: The keys that are counted themselves, by their beginnings.
_COUNTED_KEYS = {
    f"{keys.PREFIX}task:": TASKS,
    f"{keys.PREFIX}artifact:": IMAGES,
    f"{keys.PREFIX}delivery:": DELIVERIES,
    f"{keys.PREFIX}usage:day:": USAGE,
}


def count(sizes: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Return how many of each there are, by the words above, of keys with the numbers of their entries."""
    counts = dict.fromkeys((TOKENS, SCHEDULES, BATCHES, TASKS, MESSAGES, IMAGES, DELIVERIES, USAGE), 0)
    for name, size in sizes:
        if name in _COUNTED:
            counts[_COUNTED[name]] += size
        elif name.startswith("unacked_index"):
            # It has one entry for each message in hand, as the hash beside it has.
            continue
        elif not name.startswith(keys.PREFIX):
            counts[MESSAGES] += size
        for start, word in _COUNTED_KEYS.items():
            if name.startswith(start):
                counts[word] += 1
    return counts


def describe(counts: dict[str, int]) -> str:
    """Return counts as a list of words: ``3 API tokens, 12 tasks``; '' if there is nothing."""
    return ", ".join(f"{number:,} {word}" for word, number in counts.items() if number)
