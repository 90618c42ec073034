from __future__ import annotations

from typing import cast

import pytest
import redis

from graycat.broker import keys
from graycat.queue.records import TaskRecords
from graycat.worker.wrong_keys import TYPES, may_move, move_wrong_keys
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey, accepted, changed, claimed, started


@pytest.mark.parametrize("key", TYPES)
def test_a_key_of_another_type_is_moved_aside_for_a_week(client: BrokerClient, key: str) -> None:
    client.delete(key)
    client.set(key, "another program's")
    assert move_wrong_keys(client) == [key]
    assert not client.exists(key)
    assert client.get(keys.wrong_type_key(key)) == b"another program's"
    assert 0 < client.ttl(keys.wrong_type_key(key)) <= 7 * 24 * 3600
    # It may happen again.
    client.set(key, "once more")
    assert move_wrong_keys(client) == [key]


def test_what_graycat_writes_stays(records: TaskRecords, client: BrokerClient) -> None:
    records.succeed(started(records), 200, b"")
    accepted(records)
    before = client.dbsize()
    assert (move_wrong_keys(client), client.dbsize()) == ([], before)


@pytest.mark.parametrize("key", [keys.LIVE_TASKS, keys.TURNS])
def test_tasks_are_accepted_and_run_again_behind_it(records: TaskRecords, client: BrokerClient, key: str) -> None:
    client.set(key, "another program's")
    move_wrong_keys(client)
    assert records.succeed(claimed(records, accepted(records)), 200, b"")


def test_a_user_who_may_not_moves_nothing(broker: Valkey, client: BrokerClient) -> None:
    client.set(keys.TURNS, "another program's")
    client.execute_command("ACL", "SETUSER", "box", "on", "nopass", "~*", "+@all", "-rename", "-type")
    url = broker.settings.broker_url
    try:
        with redis.Redis.from_url(url, username="box", password="any") as box:
            assert move_wrong_keys(cast(BrokerClient, box)) == []
    finally:
        client.execute_command("ACL", "DELUSER", "box")
    assert client.type(keys.TURNS) == b"string"


@pytest.mark.parametrize(
    ("url", "looks"),
    [
        ("redis://broker:6379/0", True),
        ("redis://:secret@broker:6379/0", True),
        ("redis://default:secret@broker:6379/0", True),
        ("rediss://desk:secret@broker:6379/0", False),
    ],
)
def test_a_box_does_not_look_for_them(broker: Valkey, url: str, looks: bool) -> None:
    assert may_move(changed(broker.settings, redis_url=url)) is looks
    assert may_move(broker.settings)
