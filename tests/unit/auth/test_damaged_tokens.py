"""What another program has written among the minted API tokens keeps nobody from listing, minting and revoking."""

from __future__ import annotations

import json

import pytest

from graycat.auth.errors import TokenNotFound
from graycat.auth.minted import Grant, MintedTokens
from graycat.auth.signing import SigningKey
from graycat.broker import keys
from graycat.errors import SettingsError
from tests.support.broker import BrokerClient
from tests.support.clocks import Clock

KEY = SigningKey("a key of the tests")
#: As long and of the same form as a sealed one.
FORGED = b"0" * 64 + b"{}"


@pytest.fixture
def tokens(client: BrokerClient) -> MintedTokens:
    clock = Clock()
    return MintedTokens(client, KEY, now=clock, clock=clock)


@pytest.mark.parametrize(
    ("field", "value"),
    [(b"\xff\xfe", b"x"), (b"gc_rubbish", b"x"), (b"gc_rubbish", FORGED), (b"gc_12345678", FORGED), (b"", b"")],
)
def test_listing_minting_and_revoking_go_on(
    tokens: MintedTokens, client: BrokerClient, field: bytes, value: bytes
) -> None:
    _, first = tokens.mint(Grant("game"))
    client.hset(keys.API_TOKENS, field, value)
    secret, second = tokens.mint(Grant("cron"))
    assert tokens.find(secret) == second.token
    assert {first.token.prefix, second.token.prefix} <= {minted.token.prefix for minted in tokens.all()}
    tokens.revoke("game")
    assert tokens.revoke(second.token.prefix).token.name == "cron"
    assert tokens.find(secret) is None


@pytest.mark.parametrize("field", [b"\xff\xfe", b"gc_rubbish", b""])
def test_rubbish_alone_is_no_token_of_another_key(tokens: MintedTokens, client: BrokerClient, field: bytes) -> None:
    client.hset(keys.API_TOKENS, field, FORGED)
    tokens.mint(Grant("game"))


@pytest.mark.parametrize("seconds", [b"x", b"", b"-1", b"1.5", b"9" * 5000, b"\xff", "\u0663".encode()])
def test_a_last_use_that_is_no_time_is_left_out(tokens: MintedTokens, client: BrokerClient, seconds: bytes) -> None:
    _, minted = tokens.mint(Grant("game"))
    client.hset(keys.API_TOKENS_USED, minted.token.prefix, seconds)
    assert [listed.last_used_at for listed in tokens.all()] == [None]
    tokens.note_use(minted.token)
    assert tokens.all()[0].last_used_at
    tokens.revoke(minted.token.prefix)
    assert tokens.all() == []


def test_last_uses_under_a_key_of_another_type_are_left_out(tokens: MintedTokens, client: BrokerClient) -> None:
    _, minted = tokens.mint(Grant("game"))
    client.set(keys.API_TOKENS_USED, "another program's")
    tokens.note_use(minted.token)
    assert [listed.last_used_at for listed in tokens.all()] == [None]
    tokens.revoke("game")
    assert tokens.all() == []


def test_a_damaged_token_is_revoked_by_its_prefix_alone(tokens: MintedTokens, client: BrokerClient) -> None:
    secret, minted = tokens.mint(Grant("game"))
    client.hset(keys.API_TOKENS, minted.token.prefix, "damaged")
    client.hset(keys.API_TOKENS_USED, minted.token.prefix, "damaged")
    for name in ("?", "game"):
        with pytest.raises(TokenNotFound):
            tokens.revoke(name)
    tokens.revoke(minted.token.prefix)
    assert (tokens.all(), tokens.find(secret)) == ([], None)


def test_what_a_newer_release_has_sealed_opens_nothing_and_is_listed(
    tokens: MintedTokens, client: BrokerClient
) -> None:
    secret, minted = tokens.mint(Grant("game"))
    text = json.dumps({"prefix": minted.token.prefix, "limits": {"of a newer release": 1}})
    client.hset(keys.API_TOKENS, minted.token.prefix, KEY.mac("record", text).hex() + text)
    assert tokens.find(secret) is None
    assert [listed.token.prefix for listed in tokens.all()] == [minted.token.prefix]


def test_with_another_key_nothing_is_minted_beside_rubbish_either(tokens: MintedTokens, client: BrokerClient) -> None:
    tokens.mint(Grant("game"))
    client.hset(keys.API_TOKENS, b"\xff\xfe", "x")
    other = MintedTokens(client, SigningKey("another key"))
    with pytest.raises(SettingsError, match="GRAYCAT_TOKEN_KEY"):
        other.mint(Grant("cron"))
