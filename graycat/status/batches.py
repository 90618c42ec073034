"""A summary of the image batches: how many are in which state, the states of their items, and which will be late."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graycat.batches.records import BatchRecords
from graycat.batches.spec.windows import Window
from graycat.batches.states import ENDED, ITEM_STATES, STATES, UNFINISHED_ITEM_STATES
from graycat.loops.unexpected import guarded

#: The summary covers this many unfinished batches, and this many of the newest.
MAX_BATCHES = 100


@dataclass(frozen=True, slots=True)
class BatchSnapshot:
    """Batches by state, the items of the unfinished ones by state, and how many of those are late or will be."""

    states: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(STATES, 0))
    items: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(ITEM_STATES, 0))
    late: int = 0
    #: Items that are to be made of batches that are not paused and in their windows, and how many at the same time.
    left: int = 0
    left_at_once: int = 0


def read_batches(records: BatchRecords, now_ms: float) -> BatchSnapshot:
    """Return a summary of the unfinished batches and the newest ones. Raises BrokerUnavailable."""
    rows = {}
    for row in records.list_live(MAX_BATCHES) + records.list(count=MAX_BATCHES):
        rows[row["id"]] = row
    return summarize_batches(rows.values(), now_ms)


def summarize_batches(rows: Iterable[Mapping[str, Any]], now_ms: float) -> BatchSnapshot:
    """Return a summary of batches, given as their owners see them."""
    states = Counter(dict.fromkeys(STATES, 0))
    items = Counter(dict.fromkeys(ITEM_STATES, 0))
    late = left = at_once = 0
    for row in rows:
        if row["state"] not in states:
            # It is damaged, or a newer version wrote it.
            continue
        states[row["state"]] += 1
        if row["state"] not in ENDED:
            items.update(row["progress"])
            late += is_late(row, now_ms)
            if _may_run(row, now_ms):
                unfinished = sum(row["progress"][state] for state in UNFINISHED_ITEM_STATES)
                left += unfinished
                at_once += min(row.get("max_gpus") or unfinished, unfinished)
    return BatchSnapshot(dict(states), dict(items), late, left, at_once)


def _may_run(row: Mapping[str, Any], now_ms: float) -> bool:
    """Return whether an unfinished batch is not paused, and in its window."""
    if row["state"] == "paused":
        return False
    if not row.get("window"):
        return True
    # One that a newer release wrote, or that is damaged, is left alone by the runner, too.
    with guarded("snapshot"):
        return Window.parse(row["window"], row["timezone"]).is_open(now_ms / 1000)
    return False


def is_late(row: Mapping[str, Any], now_ms: float) -> bool:
    """Return whether an unfinished batch is past its deadline, or will be by its estimate; never if it is paused."""
    if not row["deadline_ms"] or row["state"] == "paused":
        return False
    return bool(now_ms + (row["eta_s"] or 0.0) * 1000 > row["deadline_ms"])
