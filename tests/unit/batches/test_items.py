from __future__ import annotations

import pytest

from graycat.batches import items as module
from graycat.batches.items import BatchItems, ItemRecord
from graycat.batches.plan import Item
from tests.support.helpers import Valkey

ITEMS = [Item(number, f"file-{number}", {"prompt": "a", "seed": number}) for number in range(1, 6)]


@pytest.fixture
def items(broker: Valkey) -> BatchItems:
    found = BatchItems(broker.client)
    found.write_plan("b", ITEMS)
    return found


def test_a_plan_is_written_in_portions_and_may_be_written_again(
    items: BatchItems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_ITEMS", 2)
    items.write_plan("b", ITEMS)
    assert items.load_plan("b", [1, 5, 9]) == {1: ITEMS[0], 5: ITEMS[4]}
    assert items.load_plan("b", []) == {}
    assert items.count_by_state("b")["waiting"] == 5


def test_an_item_moves_once(items: BatchItems) -> None:
    new = ItemRecord(state="queued", tries=1, task_id="t")
    assert items.move("b", 2, ItemRecord(), new)
    assert not items.move("b", 2, ItemRecord(), new)
    assert items.load_records("b", [1, 2]) == {1: ItemRecord(), 2: new}
    assert items.list_in_flight("b") == [2]
    assert items.list_numbers("b", "waiting") == [1, 3, 4, 5]


def test_a_try_that_is_over_moves_nothing(items: BatchItems) -> None:
    items.move("b", 2, ItemRecord(), ItemRecord(state="queued", tries=1))
    items.move("b", 2, ItemRecord(state="queued", tries=1), ItemRecord(state="waiting", tries=1))
    items.move("b", 2, ItemRecord(tries=1), ItemRecord(state="queued", tries=2))
    assert not items.move("b", 2, ItemRecord(state="queued", tries=1), ItemRecord(state="done", tries=1))


def test_many_move_some_at_a_time(items: BatchItems) -> None:
    assert items.move_all("b", ("waiting",), "cancelled", limit=3) == 3
    assert items.move_all("b", ("waiting",), "cancelled", limit=3) == 2
    assert items.move_all("b", ("waiting",), "cancelled", limit=3) == 0
    assert items.count_by_state("b") == {
        "waiting": 0,
        "queued": 0,
        "running": 0,
        "done": 0,
        "failed": 0,
        "cancelled": 5,
    }
