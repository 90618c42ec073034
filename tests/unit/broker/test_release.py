from __future__ import annotations

import pytest

from graycat.broker.release import OLDEST, join_version, oldest_release, parse_version, server_release
from tests.support.broker import BrokerClient


def test_a_broker_tells_its_own_release(client: BrokerClient) -> None:
    name, version = server_release(client.info("server"))
    assert name in OLDEST
    assert parse_version(version) >= oldest_release(name)


@pytest.mark.parametrize(
    ("info", "found"),
    [
        ({"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "9.1.2"}, ("valkey", "9.1.2")),
        ({"redis_version": "7.0.15"}, ("redis", "7.0.15")),
        ({"redis_version": "7.2.0", "server_name": "another"}, ("another", "7.2.0")),
        ({}, ("redis", "0")),
    ],
)
def test_what_valkey_says_of_redis_is_not_its_release(info: dict[str, object], found: tuple[str, str]) -> None:
    assert server_release(info) == found


def test_versions_are_compared_by_their_numbers() -> None:
    assert parse_version("0.10.0.dev3") > parse_version("0.9.1")
    assert parse_version("9.1.rc2") == (9, 1)
    assert parse_version("") == ()
    # Python converts no number of more than 4,300 digits.
    assert parse_version(f"7.{'9' * 5000}") == (7,)
    assert join_version((7, 2)) == "7.2"


def test_a_server_of_another_name_counts_as_redis() -> None:
    assert oldest_release("another") == OLDEST["redis"]
