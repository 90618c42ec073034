from __future__ import annotations

from graycat.batches.keys import ALL, ENDED, ITEM_STATES, LIVE, STATES, batch_key, owner_key, part_keys


def test_no_two_things_share_a_key() -> None:
    names = [batch_key("x"), *part_keys("x"), owner_key("live"), ALL, LIVE]
    assert len(set(names)) == len(names)
    assert all(name.startswith("graycat:batch") for name in names)


def test_states() -> None:
    assert set(ENDED) < set(STATES)
    assert len(ITEM_STATES) == 6
