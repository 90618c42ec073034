from __future__ import annotations

from contextlib import closing

import pytest

from graycat.backup.errors import BackupError
from graycat.backup.link import Link
from graycat.backup.values import COMMANDS, ROW_BYTES, ROW_PARTS, Value, count_entries, read_values
from tests.support.backups import fill
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey


def read(valkey: Valkey, *names: bytes) -> dict[bytes, Value]:
    with closing(Link(valkey.settings)) as link:
        return {value.name: value for value in read_values(link, names)}


def test_rows_are_small_and_of_few_commands(valkey: Valkey, client: BrokerClient) -> None:
    fill(client)
    found = read(valkey, *client.keys("*"))
    rows = [row for value in found.values() for row in value.rows]
    assert {row[0] for row in rows} == set(COMMANDS) - {b"DEL"}
    assert all(len(row) > COMMANDS[row[0]] for row in rows)
    assert max(map(len, rows)) <= ROW_PARTS + 2
    # One part alone may have more.
    assert all(sum(map(len, row)) < 2 * ROW_BYTES for row in rows if len(row) > 6)
    assert found[b"graycat:task:0a"].memory_bytes > 3_000_000


def test_times_are_moments(valkey: Valkey, client: BrokerClient) -> None:
    client.set("graycat:a", "x")
    client.pexpireat("graycat:a", 4_000_000_000_123)
    assert read(valkey, b"graycat:a")[b"graycat:a"].rows == [
        (b"SET", b"graycat:a", b"x"),
        (b"PEXPIREAT", b"graycat:a", b"4000000000123"),
    ]


def test_a_key_that_is_gone_has_no_rows(valkey: Valkey) -> None:
    assert read(valkey, b"graycat:none") == {b"graycat:none": Value(b"graycat:none", [], 0, 0)}


def test_scores_are_exact(valkey: Valkey, client: BrokerClient) -> None:
    scores = {"a": 0.1, "b": 1.7976931348623157e308, "c": float("-inf"), "d": 1764442800123.456}
    client.zadd("graycat:z", scores)
    (row,) = read(valkey, b"graycat:z")[b"graycat:z"].rows
    assert {member.decode(): float(score) for score, member in zip(row[2::2], row[3::2], strict=True)} == scores


def test_entries_are_counted(valkey: Valkey, client: BrokerClient) -> None:
    client.hset("h", mapping={"a": 1, "b": 2})
    client.rpush("l", 1, 2, 3)
    client.set("s", "x")
    with closing(Link(valkey.settings)) as link:
        assert count_entries(link, [b"h", b"l", b"s", b"none"]) == [2, 3, 1, 0]


def test_what_may_not_be_read_is_no_empty_key(valkey: Valkey, client: BrokerClient) -> None:
    client.set("graycat:a", "x")
    client.execute_command("ACL", "SETUSER", "default", "-pexpiretime")
    try:
        with pytest.raises(BackupError, match="refuses"):
            read(valkey, b"graycat:a")
    finally:
        client.execute_command("ACL", "SETUSER", "default", "+@all")
