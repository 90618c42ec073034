from __future__ import annotations

from graycat.batches.states import ENDED, ITEM_STATES, STATES, part_keys
from graycat.broker.keys import BATCHES, LIVE_BATCHES, batch_key, owner_batches_key


def test_no_two_things_share_a_key() -> None:
    names = [batch_key("x"), *part_keys("x"), owner_batches_key("live"), BATCHES, LIVE_BATCHES]
    assert len(set(names)) == len(names)
    assert all(name.startswith("graycat:batch") for name in names)


def test_states() -> None:
    assert set(ENDED) < set(STATES)
    assert len(ITEM_STATES) == 6
