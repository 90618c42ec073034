"""docs/broker.md says what redis-py raises in each trouble, and a real Valkey agrees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from graycat.broker.client import UNAVAILABLE_REPLIES, connect, unavailable_reply
from tests.support.helpers import ROOT
from tests.support.troubles import UNUSABLE, UNWRITABLE, FrailValkey, Trouble, cluster_node

TABLE = (ROOT / "docs" / "broker.md").read_text(encoding="utf-8").partition("## ")[0]
#: The first words of the table's rows, by the trouble that the row is about.
ROWS = {
    "away": "away",
    "silent": "silent",
    "loading": "loading",
    "busy": "busy",
    "without its primary": "a replica that has lost its primary",
    "locked": "the password is another",
    "forbidden": "the user may not",
    "crowded": "too many connections",
    "cluster down": "a node of a cluster that is down",
    "full": "full",
    "read-only": "read-only",
    "disk full": "its disk is full",
    "without its replicas": "too few replicas",
    "cluster node": "a node of a cluster: graycat",
}
TROUBLES: dict[str, Trouble] = UNUSABLE | UNWRITABLE | {"cluster node": cluster_node}


@pytest.fixture
def frail(tmp_path: Path) -> Iterator[FrailValkey]:
    """Yield a Valkey that may be brought into trouble."""
    valkey = FrailValkey(tmp_path)
    valkey.begin()
    yield valkey
    valkey.end()


@pytest.mark.parametrize("name", TROUBLES)
def test_the_table_names_what_redis_py_raises(frail: FrailValkey, name: str) -> None:
    client = connect(frail.settings)
    client.ping()
    pipe = client.pipeline()
    # A read and a write, in two slots of a cluster.
    pipe.hgetall("a")
    pipe.set("b", 1)
    with TROUBLES[name](frail), pytest.raises(redis.RedisError) as caught:
        pipe.execute()
    (row,) = [line for line in TABLE.splitlines() if line.startswith(f"| {ROWS[name]}")]
    _, _, reply, raised, _, _ = row.split("|")
    assert f"`{type(caught.value).__name__}`" in raised
    if type(caught.value) is redis.ResponseError:
        # redis-py has no class for the reply, and leaves its first word in the message.
        assert unavailable_reply(str(caught.value)) is not None
        assert any(word.strip(" `") in str(caught.value) for word in reply.split(","))
    client.close()


def test_the_table_has_every_reply_that_makes_the_broker_unavailable() -> None:
    assert [word for word in UNAVAILABLE_REPLIES if f"`{word}`" not in TABLE] == []
    assert set(ROWS) == set(TROUBLES)
