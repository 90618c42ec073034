"""What is seen of image batches: how many in which state, how far their items are, and which will be late."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graycat.batches.records import BatchRecords
from graycat.batches.states import ENDED, ITEM_STATES, STATES

#: Batches of each kind, unfinished and newest, that are looked at.
MOST = 100


@dataclass(frozen=True, slots=True)
class BatchSnapshot:
    """Batches by state, the items of the unfinished ones by state, and how many of those are late or will be."""

    states: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(STATES, 0))
    items: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(ITEM_STATES, 0))
    late: int = 0


def read_batches(records: BatchRecords, now_ms: float) -> BatchSnapshot:
    """Return what is seen of the unfinished batches and the newest ones. Raises BrokerUnavailable."""
    rows = {row["id"]: row for row in (*records.list_live(MOST), *records.list(count=MOST))}
    return summarize_batches(rows.values(), now_ms)


def summarize_batches(rows: Iterable[Mapping[str, Any]], now_ms: float) -> BatchSnapshot:
    """Return what batches are together, as their owners see them."""
    states, items, late = Counter(dict.fromkeys(STATES, 0)), Counter(dict.fromkeys(ITEM_STATES, 0)), 0
    for row in rows:
        if row["state"] not in states:
            # It is damaged, or a newer version wrote it.
            continue
        states[row["state"]] += 1
        if row["state"] not in ENDED:
            items.update(row["progress"])
            late += is_late(row, now_ms)
    return BatchSnapshot(dict(states), dict(items), late)


def is_late(row: Mapping[str, Any], now_ms: float) -> bool:
    """Tell whether an unfinished batch is past its deadline, or will be as far as one can tell.

    One that is paused is late on purpose.
    """
    if not row["deadline_ms"] or row["state"] == "paused":
        return False
    return bool(now_ms + (row["eta_s"] or 0.0) * 1000 > row["deadline_ms"])
