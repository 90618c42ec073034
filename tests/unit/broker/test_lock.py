from __future__ import annotations

from graycat.broker.lock import Lock
from tests.support.helpers import Valkey, eventually


def test_one_holds_it_until_it_lets_go_or_dies(broker: Valkey) -> None:
    one, other = Lock(broker.client, "lock", 60), Lock(broker.client, "lock", 0.02)
    assert one.hold()
    assert one.hold()
    assert not other.hold()
    other.leave()
    assert not other.hold()
    one.leave()
    assert other.hold()
    eventually(one.hold)
