from __future__ import annotations

from typing import Any

import pytest

from graycat.batches.records import BatchRecords
from graycat.batches.states import ITEM_STATES, STATES
from graycat.settings import Settings
from graycat.status.batches import BatchSnapshot, is_late, read_batches, summarize_batches
from tests.support.broker import BrokerClient

NOW_MS = 1_000_000.0
SPEC: dict[str, Any] = {
    "name": "tavern",
    "items": [{"prompt": "a keeper"}, {"prompt": "a bard"}, {"prompt": "a cat"}],
    "defaults": {"steps": 4, "width": 64, "height": 64},
}


def row(state: str, **changes: Any) -> dict[str, Any]:
    progress = dict.fromkeys(ITEM_STATES, 0) | {"done": 2, "waiting": 3}
    return {"id": "b", "state": state, "progress": progress, "deadline_ms": None, "eta_s": None, **changes}


def test_without_batches_every_state_is_there_and_empty() -> None:
    assert summarize_batches([], NOW_MS) == BatchSnapshot()
    assert (set(BatchSnapshot().states), set(BatchSnapshot().items)) == (set(STATES), set(ITEM_STATES))


def test_items_are_those_of_batches_that_go_on() -> None:
    seen = summarize_batches([row("running"), row("paused"), row("succeeded")], NOW_MS)
    assert (seen.states["running"], seen.states["paused"], seen.states["succeeded"]) == (1, 1, 1)
    assert (seen.items["done"], seen.items["waiting"]) == (4, 6)


def test_what_is_left_to_make_is_that_of_batches_that_may_run_now() -> None:
    # NOW_MS is 00:16 in UTC.
    night, day = ({"window": window, "timezone": "UTC"} for window in ("00:00-06:00", "08:00-20:00"))
    rows = [row("running", id="1", **night), row("running", id="2", **day), row("paused", id="3")]
    rows += [row("queued", id="4", max_gpus=2), row("succeeded", id="5")]
    seen = summarize_batches(rows, NOW_MS)
    assert (seen.left, seen.left_at_once) == (6, 5)


@pytest.mark.parametrize(
    ("changes", "late"),
    [
        ({}, False),
        ({"deadline_ms": NOW_MS - 1}, True),
        ({"deadline_ms": NOW_MS + 60_000}, False),
        ({"deadline_ms": NOW_MS + 60_000, "eta_s": 59.0}, False),
        ({"deadline_ms": NOW_MS + 60_000, "eta_s": 61.0}, True),
    ],
)
def test_late_is_past_the_deadline_or_beyond_it_by_the_estimate(changes: dict[str, Any], late: bool) -> None:
    assert is_late(row("running", **changes), NOW_MS) is late
    assert not is_late(row("paused", **changes), NOW_MS)
    assert summarize_batches([row("queued", **changes), row("failed", **changes)], NOW_MS).late == late


def test_what_the_broker_knows_is_seen(client: BrokerClient, settings: Settings) -> None:
    records = BatchRecords(client, settings)
    first, _ = records.submit(SPEC, "tests")
    records.submit(SPEC, "game")
    records.cancel(first)
    seen = read_batches(records, NOW_MS)
    assert (seen.states["queued"], seen.states["cancelled"]) == (1, 1)
    # Not planned yet: all of it waits.
    assert seen.items["waiting"] == 3


@pytest.mark.parametrize("window", [{"window": "at night", "timezone": "UTC"}, {"window": "00:00-06:00"}], ids=str)
def test_a_window_that_cannot_be_read_hides_no_other_batch(window: dict[str, str]) -> None:
    seen = summarize_batches([row("running", id="1", **window), row("running", id="2")], NOW_MS)
    assert (seen.states["running"], seen.left) == (2, 3)
