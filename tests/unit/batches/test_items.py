from __future__ import annotations

import pytest

from graycat.batches import items as module
from graycat.batches.items import BatchItems, Known
from graycat.batches.plan import Item
from tests.support.helpers import Valkey

ITEMS = [Item(number, f"file-{number}", {"prompt": "a", "seed": number}) for number in range(1, 6)]


@pytest.fixture
def items(broker: Valkey) -> BatchItems:
    found = BatchItems(broker.client)
    found.plan("b", ITEMS)
    return found


def test_a_plan_is_written_in_portions_and_may_be_written_again(
    items: BatchItems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PORTION", 2)
    items.plan("b", ITEMS)
    assert items.planned("b", [1, 5, 9]) == {1: ITEMS[0], 5: ITEMS[4]}
    assert items.planned("b", []) == {}
    assert items.counts("b")["waiting"] == 5


def test_an_item_moves_once(items: BatchItems) -> None:
    new = Known(state="queued", tries=1, task_id="t")
    assert items.move("b", 2, Known(), new)
    assert not items.move("b", 2, Known(), new)
    assert items.known("b", [1, 2]) == {1: Known(), 2: new}
    assert items.in_hand("b") == [2]
    assert items.numbers("b", "waiting") == [1, 3, 4, 5]


def test_a_try_that_is_over_moves_nothing(items: BatchItems) -> None:
    items.move("b", 2, Known(), Known(state="queued", tries=1))
    items.move("b", 2, Known(state="queued", tries=1), Known(state="waiting", tries=1))
    items.move("b", 2, Known(tries=1), Known(state="queued", tries=2))
    assert not items.move("b", 2, Known(state="queued", tries=1), Known(state="done", tries=1))


def test_many_move_some_at_a_time(items: BatchItems) -> None:
    assert items.move_all("b", ("waiting",), "cancelled", most=3) == 3
    assert items.move_all("b", ("waiting",), "cancelled", most=3) == 2
    assert items.move_all("b", ("waiting",), "cancelled", most=3) == 0
    assert items.counts("b") == {"waiting": 0, "queued": 0, "running": 0, "done": 0, "failed": 0, "cancelled": 5}
