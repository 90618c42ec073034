"""The states of a batch and of its items."""

from __future__ import annotations

from graycat.broker.keys import batch_part_key

#: States of an item; each is a sorted set of item numbers.
WAITING, QUEUED, RUNNING, DONE, FAILED, CANCELLED = ITEM_STATES = (
    *("waiting", "queued", "running"),
    *("done", "failed", "cancelled"),
)
#: States of a batch.
STATES = ("queued", "running", "paused", "succeeded", "failed", "cancelled")
ENDED = ("succeeded", "failed", "cancelled")


def part_keys(batch_id: str) -> list[str]:
    """Return the keys of all parts of a batch."""
    return [batch_part_key(batch_id, part) for part in ("plan", "items", *ITEM_STATES)]
