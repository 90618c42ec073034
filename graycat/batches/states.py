"""The states of a batch and of its items."""

from __future__ import annotations

from graycat.broker.keys import batch_part_key

#: States of an item. The broker has a sorted set of item numbers for each.
WAITING = "waiting"
QUEUED = "queued"
RUNNING = "running"
DONE = "done"
FAILED = "failed"
CANCELLED = "cancelled"
ITEM_STATES = (WAITING, QUEUED, RUNNING, DONE, FAILED, CANCELLED)
#: States of an item that is not finished.
UNFINISHED_ITEM_STATES = (WAITING, QUEUED, RUNNING)
#: States of a batch.
STATES = ("queued", "running", "paused", "succeeded", "failed", "cancelled")
#: States of a batch that has ended.
ENDED = ("succeeded", "failed", "cancelled")


def part_keys(batch_id: str) -> list[str]:
    """Return the keys of all parts of a batch."""
    return [batch_part_key(batch_id, part) for part in ("plan", "items", *ITEM_STATES)]
