from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from graycat.auth.authenticator import Authenticator
from graycat.auth.errors import TokenNameTaken
from graycat.auth.limits import Limits
from graycat.auth.minted import FRESH_S, Grant
from graycat.auth.signing import key_file
from graycat.auth.tokens import ApiToken
from graycat.errors import BrokerUnavailable
from graycat.settings import Settings
from tests.support.broker import BrokerClient, connect_client
from tests.support.clocks import Clock
from tests.support.helpers import Valkey, changed

CONFIGURED = "tools:abcdefgh,cron:12345678"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def credentials(broker: Valkey, clock: Clock) -> Authenticator:
    return credentials_of(broker.settings, broker.client, clock)


def credentials_of(settings: Settings, client: BrokerClient, clock: Clock, tokens: str = CONFIGURED) -> Authenticator:
    return Authenticator.from_settings(changed(settings, api_tokens=tokens, admins="tools"), client, clock, clock)


def found(credentials: Authenticator, secret: str) -> ApiToken:
    token = credentials.find(secret)
    assert token is not None
    return token


def test_each_kind_is_found(credentials: Authenticator) -> None:
    minted, _ = credentials.mint(Grant("game"))
    player, _ = credentials.mint_player(found(credentials, minted), {"player": "42"})
    assert [found(credentials, secret).name for secret in ("abcdefgh", minted, player)] == ["tools", "game", "game/42"]
    assert credentials.find("somebody") is None


def test_configured_and_players_tokens_need_no_broker(no_broker: Settings, clock: Clock) -> None:
    credentials = credentials_of(no_broker, connect_client(no_broker), clock)
    tools = found(credentials, "abcdefgh")
    player, _ = credentials.mint_player(tools, {"player": "42"})
    assert found(credentials, player).name == "tools/42"
    assert credentials.find("gp_nobody") is None
    assert key_file(no_broker).exists()


def test_a_minted_one_does(broker: Valkey, no_broker: Settings, credentials: Authenticator, clock: Clock) -> None:
    secret, _ = credentials.mint(Grant("game"))
    key = key_file(broker.settings).read_text().strip()
    cut_off = credentials_of(changed(no_broker, token_key=key), connect_client(no_broker), clock)
    with pytest.raises(BrokerUnavailable):
        cut_off.find(secret)


def test_a_player_can_do_no_more_than_its_game(credentials: Authenticator) -> None:
    limits = Limits(rate=60, max_tokens=100)
    secret, minted = credentials.mint(Grant("game", frozenset({"llm"}), limits))
    player, _ = credentials.mint_player(minted.token, {"player": "42", "limits": {"rate": 6}})
    token = found(credentials, player)
    assert (token.scopes, token.admin) == (frozenset({"llm"}), False)
    assert token.holders == (("game/42", Limits(rate=6)), ("game", limits))
    assert token.parent == found(credentials, secret)


def test_a_player_loses_the_scopes_that_its_game_has_lost(credentials: Authenticator) -> None:
    _, minted = credentials.mint(Grant("game", frozenset({"llm"})))
    # The game as it was when it had more scopes.
    before = replace(minted.token, scopes=frozenset({"llm", "sd"}))
    player, claims = credentials.mint_player(before, {"player": "42"})
    assert claims.scopes == {"llm", "sd"}
    assert found(credentials, player).scopes == {"llm"}


def test_with_a_minted_game_its_players_are_revoked(broker: Valkey, credentials: Authenticator, clock: Clock) -> None:
    _, minted = credentials.mint(Grant("game"))
    player, _ = credentials.mint_player(minted.token, {"player": "42"})
    other = credentials_of(broker.settings, broker.client, clock)
    assert other.find(player)
    credentials.minted.revoke("game")
    assert credentials.find(player) is None
    clock.forward(FRESH_S)
    assert other.find(player) is None


@pytest.mark.parametrize("tokens", ["cron:12345678", "tools:another-secret", "instruments:abcdefgh"])
def test_with_a_configured_game_that_is_gone_or_another_its_players_are(
    broker: Valkey, credentials: Authenticator, clock: Clock, tokens: str
) -> None:
    player, _ = credentials.mint_player(found(credentials, "abcdefgh"), {"player": "42"})
    settings = changed(broker.settings, api_tokens=tokens)
    assert Authenticator.from_settings(settings, broker.client, clock, clock).find(player) is None


def test_a_player_keeps_its_token_while_its_configured_game_changes_its_secret(
    broker: Valkey, credentials: Authenticator, clock: Clock
) -> None:
    player, _ = credentials.mint_player(found(credentials, "abcdefgh"), {"player": "42"})
    both = credentials_of(broker.settings, broker.client, clock, "tools:abcdefgh,tools:another-secret")
    assert found(both, player).name == "tools/42"
    newer, _ = both.mint_player(found(both, "another-secret"), {"player": "42"})
    after = credentials_of(broker.settings, broker.client, clock, "tools:another-secret")
    assert [after.find(secret) is not None for secret in (newer, player)] == [True, False]


def test_a_player_keeps_its_token_while_its_minted_game_does(credentials: Authenticator, clock: Clock) -> None:
    _, minted = credentials.mint(Grant("game"))
    player, _ = credentials.mint_player(minted.token, {"player": "42"})
    credentials.minted.rotate("game", 0)
    assert found(credentials, player).name == "game/42"


def test_a_name_in_api_tokens_is_not_minted(credentials: Authenticator) -> None:
    with pytest.raises(TokenNameTaken, match="API_TOKENS"):
        credentials.mint(Grant("cron"))


def test_a_game_s_last_use_is_its_players_too(credentials: Authenticator, clock: Clock) -> None:
    secret, minted = credentials.mint(Grant("game"))
    player, _ = credentials.mint_player(minted.token, {"player": "42"})
    assert credentials.minted.all()[0].last_used_at is None
    credentials.find(player)
    assert credentials.minted.all()[0].last_used_at == clock.now
    clock.forward(60)
    credentials.find(secret)
    assert credentials.minted.all()[0].last_used_at == clock.now


def test_two_copies_do_not_take_each_other_s_players(
    broker: Valkey, credentials: Authenticator, clock: Clock, tmp_path: Path
) -> None:
    player, _ = credentials.mint_player(found(credentials, "abcdefgh"), {"player": "42"})
    other = credentials_of(changed(broker.settings, home=tmp_path), broker.client, clock)
    assert other.find(player) is None
