"""A minted API token gets another secret, while both are accepted for a while."""

from __future__ import annotations

import json
from typing import Any

import pytest

from graycat.auth.errors import RotationUnderWay, TokenNameTaken, TokenNotFound, TokenRevoked
from graycat.auth.limits import Limits
from graycat.auth.minted import FRESH_S, MAX_OVERLAP_S, MAX_TRIES, Grant, MintedTokens
from graycat.auth.signing import SigningKey
from graycat.broker import keys
from graycat.errors import BrokerUnavailable, RequestError
from tests.support.broker import BrokerClient
from tests.support.clocks import Clock

KEY = SigningKey("a key of the tests")
LIMITED = Grant("game", frozenset({"llm"}), Limits(rate=60), ttl_s=3600)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(client: BrokerClient, clock: Clock) -> MintedTokens:
    return elsewhere(client, clock)


def elsewhere(client: BrokerClient, clock: Clock) -> MintedTokens:
    """Return the tokens as another process has them."""
    return MintedTokens(client, KEY, now=clock, clock=clock)


def works(tokens: MintedTokens, *secrets: str) -> list[bool]:
    return [tokens.find(secret) is not None for secret in secrets]


@pytest.mark.parametrize("by", ["name", "prefix"])
def test_both_secrets_are_accepted_until_the_overlap_is_over(tokens: MintedTokens, clock: Clock, by: str) -> None:
    old, before = tokens.mint(LIMITED)
    new, after = tokens.rotate("game" if by == "name" else before.token.prefix, 600)
    assert new != old
    first, second = tokens.find(old), tokens.find(new)
    assert first is not None
    assert first == second
    kept = ("prefix", "name", "scopes", "limits", "created_at", "expires_at")
    assert [after.to_dict()[name] for name in kept] == [before.to_dict()[name] for name in kept]
    assert after.to_dict()["former_until"] == clock.now + 600
    clock.forward(599)
    assert works(tokens, old, new) == [True, True]
    clock.forward(1)
    assert works(tokens, old, new) == [False, True]
    refusal = tokens.explain(old)
    assert isinstance(refusal, TokenRevoked)
    assert "replaced by a newer one" in str(refusal)


def test_the_new_secret_works_at_once_where_the_token_was_just_read(
    tokens: MintedTokens, client: BrokerClient, clock: Clock
) -> None:
    old, _ = tokens.mint(LIMITED)
    other = elsewhere(client, clock)
    assert works(other, old) == [True]
    new, _ = tokens.rotate("game", 600)
    assert works(other, new, old, new) == [True, True, True]


def test_without_an_overlap_the_old_one_is_refused_within_seconds(
    tokens: MintedTokens, client: BrokerClient, clock: Clock
) -> None:
    old, _ = tokens.mint(LIMITED)
    other = elsewhere(client, clock)
    assert works(other, old) == [True]
    new, _ = tokens.rotate("game", 0)
    assert works(tokens, old, new) == [False, True]
    clock.forward(FRESH_S)
    assert works(other, old, new) == [False, True]


def test_a_third_secret_has_to_wait_unless_it_ends_the_others(tokens: MintedTokens, clock: Clock) -> None:
    first, _ = tokens.mint(LIMITED)
    second, _ = tokens.rotate("game", 600)
    with pytest.raises(RotationUnderWay, match="600 s"):
        tokens.rotate("game", 600)
    assert works(tokens, first, second) == [True, True]
    third, _ = tokens.rotate("game", 0)
    assert works(tokens, first, second, third) == [False, False, True]
    tokens.rotate("game", 600)
    clock.forward(600)
    tokens.rotate("game", 600)


def test_who_goes_on_with_a_replaced_secret_is_looked_up_once_in_a_while(
    tokens: MintedTokens, client: BrokerClient, clock: Clock
) -> None:
    def looks() -> int:
        calls: int = client.info("commandstats").get("cmdstat_hget", {}).get("calls", 0)
        return calls

    old, _ = tokens.mint(LIMITED)
    tokens.rotate("game", 0)
    tokens.find(old)
    before = looks()
    assert {tokens.find(old) for _ in range(50)} == {None}
    assert looks() == before
    clock.forward(FRESH_S)
    tokens.find(old)
    assert looks() <= before + 2


def test_a_revoked_token_is_gone_with_both_secrets(tokens: MintedTokens) -> None:
    old, _ = tokens.mint(LIMITED)
    new, _ = tokens.rotate("game", 600)
    tokens.revoke("game")
    assert works(tokens, old, new) == [False, False]
    with pytest.raises(TokenNotFound):
        tokens.rotate("game", 600)


def test_one_that_has_expired_gets_no_new_secret(tokens: MintedTokens, clock: Clock) -> None:
    tokens.mint(LIMITED)
    clock.forward(3600)
    with pytest.raises(RequestError, match="mint another"):
        tokens.rotate("game", 600)


@pytest.mark.parametrize("overlap_s", [-1, MAX_OVERLAP_S + 1])
def test_an_overlap_has_bounds(tokens: MintedTokens, overlap_s: int) -> None:
    tokens.mint(LIMITED)
    with pytest.raises(RequestError, match="overlap_s"):
        tokens.rotate("game", overlap_s)


def test_a_record_of_an_older_release_has_one_secret(tokens: MintedTokens, client: BrokerClient, clock: Clock) -> None:
    secret, minted = tokens.mint(LIMITED)
    sealed = client.hget(keys.API_TOKENS, minted.token.prefix) or b""
    record = json.loads(sealed[64:])
    del record["former_digest"], record["former_until"]
    text = json.dumps(record)
    client.hset(keys.API_TOKENS, minted.token.prefix, KEY.mac("record", text).hex() + text)
    other = elsewhere(client, clock)
    assert works(other, secret) == [True]
    new, _ = other.rotate("game", 60)
    assert works(other, secret, new) == [True, True]


class Meddler:
    """A broker in which something happens each time that all tokens were read."""

    def __init__(self, client: BrokerClient, then: Any) -> None:
        self._client: Any = client
        self._then = then

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def hgetall(self, name: str) -> Any:
        found = self._client.hgetall(name)
        self._then()
        return found


def test_of_two_that_take_a_name_at_once_one_gets_it(tokens: MintedTokens, client: BrokerClient, clock: Clock) -> None:
    rivals = [LIMITED]

    def mint_first() -> None:
        if rivals:
            tokens.mint(rivals.pop())

    slow: Any = Meddler(client, mint_first)
    with pytest.raises(TokenNameTaken):
        elsewhere(slow, clock).mint(LIMITED)
    assert [minted.token.name for minted in tokens.all()] == ["game"]


def test_a_mint_that_others_overtake_again_and_again_gives_up_and_takes_no_name(
    tokens: MintedTokens, client: BrokerClient, clock: Clock
) -> None:
    names = iter(range(2 * MAX_TRIES))
    slow: Any = Meddler(client, lambda: tokens.mint(Grant(f"other{next(names)}")))
    with pytest.raises(BrokerUnavailable):
        elsewhere(slow, clock).mint(LIMITED)
    assert "game" not in [minted.token.name for minted in tokens.all()]
