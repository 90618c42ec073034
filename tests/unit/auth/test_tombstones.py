from __future__ import annotations

import pytest

from graycat.auth.tombstones import FRESH_S, KEPT_S, MAX_CACHED, Tombstones
from graycat.broker import keys
from tests.support.broker import BrokerClient
from tests.support.clocks import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tombstones(client: BrokerClient, clock: Clock) -> Tombstones:
    return Tombstones(client, clock, clock)


def bury(tombstones: Tombstones, client: BrokerClient, prefix: str) -> None:
    with client.pipeline() as pipe:
        tombstones.put(pipe, prefix)
        pipe.execute()


def test_what_was_revoked_is_remembered_for_a_while(tombstones: Tombstones, client: BrokerClient, clock: Clock) -> None:
    bury(tombstones, client, "gc_aaaaaaaa")
    elsewhere = Tombstones(client, clock, clock)
    assert [elsewhere.has(prefix) for prefix in ("gc_aaaaaaaa", "gc_bbbbbbbb")] == [True, False]
    assert elsewhere.among(["gc_bbbbbbbb", "gc_aaaaaaaa"]) == {"gc_aaaaaaaa"}
    assert elsewhere.among([]) == set()
    clock.forward(KEPT_S + 1)
    assert not elsewhere.has("gc_aaaaaaaa")


def test_those_of_long_ago_are_removed(tombstones: Tombstones, client: BrokerClient, clock: Clock) -> None:
    bury(tombstones, client, "gc_aaaaaaaa")
    clock.forward(KEPT_S + 1)
    bury(tombstones, client, "gc_bbbbbbbb")
    assert client.zrange(keys.REVOKED_TOKENS, 0, -1) == [b"gc_bbbbbbbb"]
    assert 0 < client.pttl(keys.REVOKED_TOKENS) <= KEPT_S * 1000


def test_who_goes_on_trying_is_looked_up_once_in_a_while(
    tombstones: Tombstones, client: BrokerClient, clock: Clock
) -> None:
    def looks() -> int:
        calls: int = client.info("commandstats").get("cmdstat_zscore", {}).get("calls", 0)
        return calls

    before = looks()
    for _ in range(5):
        tombstones.has("gc_aaaaaaaa")
    assert looks() - before == 1
    clock.forward(FRESH_S)
    tombstones.has("gc_aaaaaaaa")
    assert looks() - before == 2


def test_what_is_remembered_here_is_bounded(tombstones: Tombstones) -> None:
    for number in range(MAX_CACHED):
        tombstones._cached[f"gc_{number:08}"] = (0.0, False)
    tombstones.has("gc_aaaaaaaa")
    assert len(tombstones._cached) == 1
