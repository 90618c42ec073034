from __future__ import annotations

import json
from typing import Any

import pytest

from graycat.auth.errors import TokenNameTaken, TokenNotFound
from graycat.auth.limits import Limits
from graycat.auth.minted import FRESH_S, MAX_CACHED, MAX_TTL_S, USE_INTERVAL_S, Grant, MintedTokens
from graycat.auth.signing import SigningKey
from graycat.auth.tokens import ApiToken
from graycat.broker import keys
from graycat.broker.client import connect
from graycat.errors import BrokerUnavailable, RequestError, SettingsError
from graycat.settings import Settings
from tests.support.broker import BrokerClient, connect_client
from tests.support.clocks import Clock

KEY = SigningKey("a key of the tests")
LIMITED = Grant("game", frozenset({"llm"}), Limits(rate=60, max_tokens=200), ttl_s=3600)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(client: BrokerClient, clock: Clock) -> MintedTokens:
    return MintedTokens(client, KEY, now=clock, clock=clock)


def elsewhere(client: BrokerClient, clock: Clock, key: SigningKey = KEY) -> MintedTokens:
    """Return the tokens as another process has them."""
    return MintedTokens(client, key, now=clock, clock=clock)


def commands(client: BrokerClient) -> int:
    """Return how many commands that concern tokens the broker has run."""
    stats = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("hget", "hgetall", "hset"))


def test_a_secret_shows_its_prefix_and_finds_its_token(tokens: MintedTokens, clock: Clock) -> None:
    secret, minted = tokens.mint(LIMITED)
    assert secret.startswith(minted.token.prefix + "_")
    assert len(minted.token.prefix) == len("gc_") + 8
    found = tokens.find(secret)
    assert found == minted.token
    assert found is not None
    assert (found.name, found.scopes, found.limits) == (LIMITED.name, LIMITED.scopes, LIMITED.limits)
    assert (minted.created_at, found.expires_at) == (clock.now, clock.now + 3600)


def test_no_two_secrets_are_alike(tokens: MintedTokens) -> None:
    secrets = [tokens.mint(Grant(f"game{number}"))[0] for number in range(20)]
    assert len({secret[3:] for secret in secrets}) == 20


def test_the_broker_holds_nothing_to_call_with(tokens: MintedTokens, client: BrokerClient) -> None:
    secret, minted = tokens.mint(LIMITED)
    tokens.find(secret)
    stored = str(client.hgetall(keys.API_TOKENS)) + str(client.hgetall(keys.API_TOKENS_USED))
    assert minted.token.prefix in stored
    assert secret.removeprefix(minted.token.prefix + "_") not in stored


def test_another_process_finds_it_at_once(tokens: MintedTokens, client: BrokerClient, clock: Clock) -> None:
    other = elsewhere(client, clock)
    secret, minted = tokens.mint(LIMITED)
    assert other.find(secret) == minted.token


def test_anything_else_is_nobody(tokens: MintedTokens) -> None:
    secret, minted = tokens.mint(LIMITED)
    last = "A" if secret[-1] != "A" else "B"
    guesses = [secret[:-1] + last, secret + "A", secret.upper(), secret[:20] + last + secret[21:], minted.token.prefix]
    tokens.find(secret)
    assert [tokens.find(guess) for guess in (*guesses, "", "gc_", "gp_", "ÿ", secret[:-1] + "ÿ", secret + "\n")] == [
        None
    ] * 11


def test_a_revoked_token_is_nobody_at_once_here_and_elsewhere_when_what_is_known_is_stale(
    tokens: MintedTokens, client: BrokerClient, clock: Clock
) -> None:
    secret, minted = tokens.mint(LIMITED)
    other = elsewhere(client, clock)
    assert other.find(secret)
    clock.forward(FRESH_S / 2)
    assert tokens.revoke("game").token.prefix == minted.token.prefix
    assert tokens.find(secret) is None
    clock.forward(FRESH_S / 2)
    assert other.find(secret) is None
    assert client.hgetall(keys.API_TOKENS) == {}


def test_what_is_known_is_not_asked_again(tokens: MintedTokens, client: BrokerClient, clock: Clock) -> None:
    secret, _ = tokens.mint(LIMITED)
    tokens.find(secret)
    before = commands(client)
    clock.forward(FRESH_S - 0.1)
    for _ in range(50):
        tokens.find(secret)
    assert commands(client) == before
    clock.forward(0.1)
    tokens.find(secret)
    assert commands(client) == before + 1


def test_a_flood_of_guesses_does_not_reach_the_broker(tokens: MintedTokens, client: BrokerClient) -> None:
    secret, minted = tokens.mint(LIMITED)
    tokens.find(secret)
    before = commands(client)
    rest = secret.removeprefix(minted.token.prefix)
    for number in range(200):
        assert tokens.find(f"gc_{number:08}{rest}") is None
        assert tokens.find(f"{minted.token.prefix}_{number:051}") is None
    assert commands(client) == before


def test_a_revoked_one_that_goes_on_trying_is_asked_for_once_in_a_while(
    tokens: MintedTokens, client: BrokerClient
) -> None:
    secret, _ = tokens.mint(LIMITED)
    tokens.revoke("game")
    tokens.find(secret)
    before = commands(client)
    assert {tokens.find(secret) for _ in range(50)} == {None}
    assert commands(client) == before


def test_memory_has_an_end(tokens: MintedTokens) -> None:
    for number in range(MAX_CACHED + 5):
        tokens._cached[f"gc_{number:08}"] = (0.0, None)
    secret, _ = tokens.mint(LIMITED)
    assert tokens.find(secret)
    assert len(tokens._cached) == 1


def test_an_expired_token_is_nobody(tokens: MintedTokens, clock: Clock) -> None:
    secret, _ = tokens.mint(LIMITED)
    clock.forward(3599)
    assert tokens.find(secret)
    clock.forward(1)
    assert tokens.find(secret) is None


def test_while_the_broker_is_down_what_is_fresh_still_counts(
    client: BrokerClient, no_broker: Settings, clock: Clock
) -> None:
    tokens = elsewhere(client, clock)
    secret, _ = tokens.mint(LIMITED)
    tokens.find(secret)
    tokens._client = connect(no_broker)
    assert tokens.find(secret)
    clock.forward(FRESH_S)
    with pytest.raises(BrokerUnavailable):
        tokens.find(secret)
    assert tokens.find("gc_" + "x" * 8 + "_" + "x" * 51) is None


def test_a_name_is_given_once(tokens: MintedTokens) -> None:
    tokens.mint(LIMITED)
    with pytest.raises(TokenNameTaken, match="game"):
        tokens.mint(Grant("game"))
    tokens.revoke("game")
    tokens.mint(Grant("game"))


@pytest.mark.parametrize("name", ["", " ", "a b", "game/1", "x" * 65, "-x", "gc_game", "gp_1", "gäme", "a\n", None, 7])
def test_a_name_can_stand_in_logs_and_is_no_player_s(name: Any) -> None:
    with pytest.raises(RequestError, match="name"):
        Grant(name)


def test_tokens_are_listed_without_their_secrets(tokens: MintedTokens, clock: Clock) -> None:
    secret, first = tokens.mint(LIMITED)
    clock.forward(5)
    tokens.mint(Grant("cron"))
    assert [minted.to_dict() for minted in tokens.all()] == [
        {
            "prefix": first.token.prefix,
            "name": "game",
            "scopes": ["llm"],
            "limits": {"rate": 60, "max_tokens": 200},
            "created_at": clock.now - 5,
            "expires_at": clock.now + 3595,
            "former_until": None,
            "last_used_at": None,
        },
        {
            "prefix": tokens.all()[1].token.prefix,
            "name": "cron",
            "scopes": ["batch", "llm", "sd"],
            "limits": {},
            "created_at": clock.now,
            "expires_at": None,
            "former_until": None,
            "last_used_at": None,
        },
    ]
    assert secret not in json.dumps([minted.to_dict() for minted in tokens.all()])


def test_the_last_use_is_written_down_once_a_minute(tokens: MintedTokens, client: BrokerClient, clock: Clock) -> None:
    _, minted = tokens.mint(LIMITED)
    used = []
    for seconds in (0, 1, USE_INTERVAL_S - 2, 1):
        clock.forward(seconds)
        tokens.note_use(minted.token)
        used.append(tokens.all()[0].last_used_at)
    start = clock.now - USE_INTERVAL_S
    assert used == [start, start, start, clock.now]
    tokens.revoke("game")
    assert client.hgetall(keys.API_TOKENS_USED) == {}


def test_nobody_s_request_fails_for_it(no_broker: Settings, clock: Clock) -> None:
    tokens = elsewhere(connect_client(no_broker), clock)
    tokens.note_use(ApiToken("game", b"", prefix="gc_12345678"))


def test_what_nobody_has_cannot_be_revoked(tokens: MintedTokens) -> None:
    _, minted = tokens.mint(LIMITED)
    for name in ("", "gam", "nobody", minted.token.prefix[:-1]):
        with pytest.raises(TokenNotFound):
            tokens.revoke(name)
    tokens.revoke(minted.token.prefix)


def test_who_writes_the_broker_cannot_give_a_token_more(
    tokens: MintedTokens, client: BrokerClient, clock: Clock
) -> None:
    secret, minted = tokens.mint(LIMITED)
    sealed = client.hget(keys.API_TOKENS, minted.token.prefix) or b""
    client.hset(keys.API_TOKENS, minted.token.prefix, sealed.replace(b'"llm"', b'"admin"'))
    assert elsewhere(client, clock).find(secret) is None


def test_one_token_s_record_does_not_do_for_another(tokens: MintedTokens, client: BrokerClient, clock: Clock) -> None:
    secret, narrow = tokens.mint(LIMITED)
    _, wide = tokens.mint(Grant("tools", frozenset({"admin"})))
    client.hset(keys.API_TOKENS, narrow.token.prefix, client.hget(keys.API_TOKENS, wide.token.prefix))
    assert elsewhere(client, clock).find(secret) is None


@pytest.mark.parametrize("record", [b"", b"nonsense", b"\xff" * 80, b"0" * 64 + b"{}"])
def test_a_broken_record_opens_nothing(tokens: MintedTokens, client: BrokerClient, clock: Clock, record: bytes) -> None:
    secret, minted = tokens.mint(LIMITED)
    client.hset(keys.API_TOKENS, minted.token.prefix, record)
    assert elsewhere(client, clock).find(secret) is None
    assert [(m.token.prefix, m.token.name, m.token.scopes) for m in tokens.all()] == [
        (minted.token.prefix, "?", frozenset())
    ]


def test_with_another_key_nothing_is_minted_that_would_open_nothing(
    tokens: MintedTokens, client: BrokerClient, clock: Clock
) -> None:
    secret, minted = tokens.mint(LIMITED)
    other = elsewhere(client, clock, SigningKey("another key"))
    assert other.find(secret) is None
    with pytest.raises(SettingsError, match="GRAYCAT_TOKEN_KEY"):
        other.mint(Grant("cron"))
    other.revoke(minted.token.prefix)
    other.mint(Grant("cron"))


def test_a_grant_is_read_from_json() -> None:
    body = {"name": "game", "scopes": ["llm"], "limits": {"rate": 60, "max_tokens": 200}, "ttl_s": 3600}
    assert Grant.read(body) == LIMITED
    assert Grant.read({"name": "game"}) == Grant("game")
    assert Grant.read({"name": "game", "scopes": None, "limits": None, "ttl_s": None}) == Grant("game")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"name": 7}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["root"]}, "scopes"),
        ({"limit": {"rate": 1}}, "'limit'"),
        ({"limits": {"rates": 1}}, "rates"),
        ({"limits": []}, "limits"),
        ({"ttl_s": 0}, "ttl_s"),
        ({"ttl_s": True}, "ttl_s"),
        ({"ttl_s": "30d"}, "ttl_s"),
        ({"ttl_s": MAX_TTL_S + 1}, "ttl_s"),
    ],
)
def test_a_grant_that_says_something_else_is_refused(change: dict[str, Any], word: str) -> None:
    with pytest.raises(RequestError, match=word):
        Grant.read({"name": "game"} | change)
