from __future__ import annotations

import json
import sys

from graycat.broker.keys import HOME, quarantine_key
from graycat.broker.quarantine import MAX_DATA_BYTES, MAX_ITEMS, Quarantine
from tests.support.broker import BrokerClient


def test_the_newest_come_first_and_without_their_content(client: BrokerClient) -> None:
    quarantine = Quarantine(client)
    quarantine.put("hub", b"a secret", "ValueError")
    quarantine.put("sweeper", b"xyz", "KeyError")
    items = quarantine.items()
    assert [(item.where, item.reason, item.size) for item in items] == [
        ("sweeper", "KeyError", 3),
        ("hub", "ValueError", 8),
    ]
    assert items[0].at_ms >= items[1].at_ms
    assert "secret" not in repr(items)


def test_it_holds_so_many_items_and_so_much_of_each_for_a_while(client: BrokerClient) -> None:
    quarantine = Quarantine(client)
    for number in range(MAX_ITEMS + 5):
        quarantine.put("hub", b"x" * (2 * MAX_DATA_BYTES), str(number))
    assert len(quarantine.items()) == client.llen(quarantine_key(HOME)) == MAX_ITEMS
    assert quarantine.items(1)[0].size == 2 * MAX_DATA_BYTES
    assert client.memory_usage(quarantine_key(HOME)) < MAX_ITEMS * MAX_DATA_BYTES * 2
    assert client.ttl(quarantine_key(HOME)) > 0


def test_rows_of_another_kind_are_passed_over(client: BrokerClient) -> None:
    quarantine = Quarantine(client)
    quarantine.put("hub", b"", "ValueError")
    for row in (
        b"[" * (sys.getrecursionlimit() + 10),
        b'{"at_ms": Infinity}',
        b"{half",
        b"[]",
        b"7",
        json.dumps({"at_ms": "x"}).encode(),
        b"\xff",
    ):
        client.lpush(quarantine_key(HOME), row)
    assert [item.where for item in quarantine.items()] == ["hub"]
