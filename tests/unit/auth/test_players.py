from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import pytest

from graycat.auth.limits import Limits
from graycat.auth.players import Claims, PlayerTokens
from graycat.auth.signing import SigningKey
from graycat.auth.tokens import ApiToken
from graycat.errors import Forbidden, RequestError
from tests.support.clocks import Clock

GAME = ApiToken("game", b"", frozenset({"llm", "sd", "batch", "admin"}), Limits(rate=60), prefix="gc_12345678")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def players(clock: Clock) -> PlayerTokens:
    return PlayerTokens(SigningKey("a key of the tests"), clock)


def test_a_token_says_what_its_game_asked_for(players: PlayerTokens, clock: Clock) -> None:
    body = {"player": "steam-42", "ttl_s": 600, "scopes": ["llm"], "limits": {"rate": 10, "max_tokens": 50}}
    secret, claims = players.mint(GAME, "gc_12345678", body)
    assert secret.startswith("gp_")
    limits = Limits(rate=10, max_tokens=50)
    assert claims == Claims("gc_12345678", "game/steam-42", frozenset({"llm"}), limits, int(clock.now) + 600)
    assert players.read(secret) == claims


def test_without_a_word_it_may_do_what_players_do_for_a_quarter_of_an_hour(players: PlayerTokens, clock: Clock) -> None:
    _, claims = players.mint(GAME, "gc_12345678", {"player": "42"})
    assert (claims.scopes, claims.expires_at) == (frozenset({"llm", "sd"}), int(clock.now) + 900)
    _, claims = players.mint(ApiToken("game", b"", frozenset({"llm", "batch"})), "game", {"player": "42"})
    assert claims.scopes == {"llm"}


def test_it_ends(players: PlayerTokens, clock: Clock) -> None:
    secret, _ = players.mint(GAME, "gc_12345678", {"player": "42", "ttl_s": 60})
    clock.forward(59)
    assert players.read(secret)
    clock.forward(1)
    assert players.read(secret) is None


def test_it_does_not_outlive_its_game_s(players: PlayerTokens, clock: Clock) -> None:
    game = ApiToken("game", b"", expires_at=clock.now + 100)
    assert players.mint(game, "game", {"player": "42"})[1].expires_at == clock.now + 100


def test_what_we_did_not_sign_is_nobody(players: PlayerTokens, clock: Clock) -> None:
    secret, _ = players.mint(GAME, "gc_12345678", {"player": "42"})
    text, _, signature = secret.removeprefix("gp_").partition(".")
    wider = urlsafe_b64decode(text + "=" * (-len(text) % 4)).replace(b'"llm"', b'"admin"')
    forged = [
        "gp_" + urlsafe_b64encode(wider).decode().rstrip("=") + "." + signature,
        f"gp_{text}.",
        f"gp_{text}",
        f"gp_.{signature}",
        "gp_",
        "gp_.",
        f"gp_{text}.{signature}ÿ",
        f"gp_{text}.{signature[:-1]}",
        f"{text}.{signature}",
        f"GP_{text}.{signature}",
        "gp_" + "x" * 100_000,
    ]
    assert [players.read(guess) for guess in forged] == [None] * len(forged)
    assert PlayerTokens(SigningKey("another key"), clock).read(secret) is None


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"player": None}, "player"),
        ({"player": ""}, "player"),
        ({"player": "x" * 65}, "player"),
        ({"player": "two words"}, "player"),
        ({"player": "a:b"}, "player"),
        ({"player": "ü"}, "player"),
        ({"player": 42}, "player"),
        ({"ttl_s": 59}, "ttl_s"),
        ({"ttl_s": 3601}, "ttl_s"),
        ({"ttl_s": "900"}, "ttl_s"),
        ({"ttl_s": True}, "ttl_s"),
        ({"ttl_s": None}, "ttl_s"),
        ({"scopes": "llm"}, "scopes"),
        ({"limits": {"rate": 61}}, "rate"),
        ({"limits": {"rate": 0}}, "rate"),
        ({"name": "boss"}, "name"),
    ],
)
def test_a_request_that_makes_no_sense_or_asks_for_more_is_refused(
    players: PlayerTokens, change: dict[str, Any], word: str
) -> None:
    with pytest.raises(RequestError, match=word):
        players.mint(GAME, "gc_12345678", {"player": "42"} | change)


@pytest.mark.parametrize("scopes", [["admin"], ["llm", "admin"]])
def test_no_player_is_an_admin(players: PlayerTokens, scopes: list[str]) -> None:
    with pytest.raises(Forbidden, match="admin"):
        players.mint(GAME, "gc_12345678", {"player": "42", "scopes": scopes})


def test_nobody_gives_what_it_has_not(players: PlayerTokens) -> None:
    with pytest.raises(Forbidden, match="sd"):
        players.mint(ApiToken("game", b"", frozenset({"llm"})), "game", {"player": "42", "scopes": ["sd"]})
    with pytest.raises(Forbidden):
        players.mint(ApiToken("tools", b"", frozenset({"admin"})), "tools", {"player": "42"})


def test_a_player_s_token_makes_no_others(players: PlayerTokens) -> None:
    with pytest.raises(Forbidden, match="no others"):
        players.mint(ApiToken("game/42", b"", parent=GAME), "", {"player": "43"})


def test_a_limit_that_the_game_has_not_may_be_any(players: PlayerTokens) -> None:
    _, claims = players.mint(GAME, "gc_12345678", {"player": "42", "limits": {"max_tokens": 10**6, "rate": 60}})
    assert claims.limits == Limits(rate=60, max_tokens=10**6)
