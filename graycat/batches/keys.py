"""The keys of a batch in the broker, and how its fields look to its owner."""

from __future__ import annotations

from graycat.broker.client import PREFIX

#: Batches that the feeder looks at, by whose turn it is; all batches, by the time they were submitted.
LIVE, ALL = PREFIX + "batches:live", PREFIX + "batches"
#: Held by the control worker that feeds.
FEEDING = PREFIX + "batches:feeding"
#: How fast images are made: milliseconds a megapixel-step, by kind, and by kind and worker.
SPEEDS = PREFIX + "batches:speeds"
#: Which batch writes to a folder.
FOLDERS = PREFIX + "batches:folders"
#: What the owners of turns are counted by.
TURN = PREFIX + "batches:turn"

#: States of an item; each is a sorted set of item numbers.
WAITING, QUEUED, RUNNING, DONE, FAILED, CANCELLED = ITEM_STATES = (
    *("waiting", "queued", "running"),
    *("done", "failed", "cancelled"),
)
#: States of a batch.
STATES = ("queued", "running", "paused", "succeeded", "failed", "cancelled")
ENDED = ("succeeded", "failed", "cancelled")


def batch_key(batch_id: str) -> str:
    """Return the key of a batch's record."""
    return f"{PREFIX}batch:{batch_id}"


def part_key(batch_id: str, part: str) -> str:
    """Return the key of a part of a batch: ``plan`` and ``items`` (hashes), or an item state's numbers."""
    return f"{batch_key(batch_id)}:{part}"


def part_keys(batch_id: str) -> list[str]:
    """Return the keys of all parts of a batch."""
    return [part_key(batch_id, part) for part in ("plan", "items", *ITEM_STATES)]


def owner_key(owner: str) -> str:
    """Return the key of the ids of one API token's batches, by the time they were submitted."""
    return f"{PREFIX}batches:of:{owner}"
