"""The list of keys that must be empty at the end: each is found, by its name, and what may stay is not."""

from __future__ import annotations

import pytest
import redis

from chaos.facts import read_left
from chaos.leftovers import name_of
from graycat.broker import keys
from graycat.families import FAMILIES
from graycat.queue.topology import QUEUES
from tests.support.helpers import Valkey

pytestmark = pytest.mark.not_covered


@pytest.mark.parametrize(
    ("key", "name"),
    [
        *((queue, f"queue {queue}") for queue in QUEUES),
        *((keys.live_key(family.name), f"live tasks {family.name}") for family in FAMILIES),
        *((keys.turns_key(family.name), f"turns {family.name}") for family in FAMILIES),
        *((f"{keys.PREFIX}quarantine.{share}", f"quarantine {share}") for share in keys.SHARES),
        (keys.owned_key("llm", "a"), "live tasks of owners llm"),
        (keys.players_key("llm", "a"), "keys players.*"),
        (keys.turn_key("llm", "a"), "keys turn.*"),
        (keys.parked_key("llm", "a"), "keys aside.*"),
        (keys.owners_key("llm"), "keys owners:*"),
        (keys.changed_key("llm"), "keys changed:*"),
        (keys.receiver_key("a"), "keys receiver:*"),
        (keys.sender_key("a"), "keys sender:*"),
        (keys.parked_count_key("llm"), "parked tasks llm"),
        (keys.UNCOUNTED, "tasks not counted"),
        (keys.LIVE_BATCHES, "live batches"),
        (keys.PAUSED_QUEUES, "paused queues"),
        ("llm:fake", "queue llm"),
        ("unacked:llm", "unacknowledged llm"),
        ("unacked_index:llm", "leases of messages llm"),
        # These may stay: a lock, and what is kept for its time.
        *((key, "") for key in ("unacked_mutex", "graycat:task:a", "graycat:fleet.llm", "llmx", "graycat:dead:llm")),
    ],
)
def test_a_key_has_its_name(key: str, name: str) -> None:
    assert name_of(key) == name


class FakeSystem:
    """A broker alone."""

    def __init__(self, client: object) -> None:
        self._client = client

    def redis(self) -> object:
        """Return the client."""
        return self._client


def test_what_is_left_is_counted(valkey: Valkey) -> None:
    broker = redis.Redis(unix_socket_path=str(valkey.settings.broker_socket), decode_responses=True)
    broker.flushall()
    broker.lpush("llm", "a", "b")
    broker.lpush("llm:fake", "a")
    broker.zadd("graycat:live.llm", {"a": 1})
    broker.set("graycat:turns.llm", "another program's")
    broker.set(keys.parked_count_key("llm"), 0)
    broker.set(keys.parked_count_key("sd"), 3)
    broker.hset("graycat:task:a", "state", "succeeded")
    left = read_left(FakeSystem(broker))  # type: ignore[arg-type]
    assert left == {"queue llm": 3, "live tasks llm": 1, "turns llm": 1, "parked tasks sd": 3}
    broker.flushall()
    broker.close()
