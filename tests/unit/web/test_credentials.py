"""How an API token is sent, and what a caller is told whose token may not call (RFC 6750)."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from graycat.auth.authenticator import Authenticator
from graycat.auth.minted import Grant
from graycat.broker import keys
from graycat.web.services import services_of
from tests.support.helpers import SECRET

Send = Callable[..., TestResponse]


@pytest.fixture
def stranger(web: FlaskClient) -> FlaskClient:
    del web.environ_base["HTTP_AUTHORIZATION"]
    return web


@pytest.fixture
def credentials(web: FlaskClient) -> Authenticator:
    return services_of(web.application).authenticator


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def refusal(response: TestResponse) -> tuple[int, str]:
    """Return status and type of a refusal, which its challenge must repeat."""
    error = response.get_json()["error"]
    challenge = response.headers["WWW-Authenticate"]
    assert challenge.startswith("Bearer realm=")
    sent = error["type"] != "authentication_error"
    assert ("error=" in challenge) is sent
    if sent:
        assert f'error_description="{error["message"]}"' in challenge
    return response.status_code, error["type"]


def test_without_any_token_no_error_is_named(stranger: FlaskClient) -> None:
    assert refusal(stranger.get("/tasks")) == (401, "authentication_error")


def test_an_unknown_one_is_said_to_be_that(stranger: FlaskClient) -> None:
    for secret in ("nobody-has-this", "gc_" + "x" * 60, "gp_nobody.nothing"):
        response = stranger.get("/tasks", headers=bearer(secret))
        assert refusal(response) == (401, "token_unknown")
        assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]


def test_a_revoked_one_and_its_players_are_said_to_be_that(stranger: FlaskClient, credentials: Authenticator) -> None:
    secret, minted = credentials.mint(Grant("game"))
    player, _ = credentials.mint_player(minted.token, {"player": "42"})
    credentials.minted.revoke("game")
    mine = stranger.get("/tasks", headers=bearer(secret))
    theirs = stranger.get("/tasks", headers=bearer(player))
    assert refusal(mine) == refusal(theirs) == (401, "token_revoked")
    assert "this API token was revoked" in mine.text
    assert "with which this player's token was made was revoked" in theirs.text


def test_a_guess_at_a_revoked_one_is_told_nothing(stranger: FlaskClient, credentials: Authenticator) -> None:
    secret, _ = credentials.mint(Grant("game"))
    credentials.minted.revoke("game")
    other, _ = credentials.mint(Grant("other"))
    guess = secret[:11] + other[11:]
    assert refusal(stranger.get("/tasks", headers=bearer(guess))) == (401, "token_unknown")


def test_one_that_was_revoked_long_ago_is_unknown(stranger, credentials: Authenticator, client) -> None:
    secret, minted = credentials.mint(Grant("game"))
    client.hdel(keys.API_TOKENS, minted.token.prefix)
    assert refusal(stranger.get("/tasks", headers=bearer(secret))) == (401, "token_unknown")


def test_an_expired_one_and_an_expired_player_s_are_said_to_be_that(
    stranger: FlaskClient, credentials: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, minted = credentials.mint(Grant("game", ttl_s=600))
    player, _ = credentials.mint_player(minted.token, {"player": "42", "ttl_s": 60})
    now = time.time()
    for part in (credentials.minted, credentials._players):
        monkeypatch.setattr(part, "_now", lambda: now + 61)
    theirs = stranger.get("/tasks", headers=bearer(player))
    assert refusal(theirs) == (401, "token_expired")
    assert "player" in theirs.text
    assert stranger.get("/tasks", headers=bearer(secret)).status_code == 200
    monkeypatch.setattr(credentials.minted, "_now", lambda: now + 601)
    assert refusal(stranger.get("/tasks", headers=bearer(secret))) == (401, "token_expired")


def test_a_player_of_a_token_that_is_not_configured_any_more(
    stranger: FlaskClient, credentials: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = credentials.find(SECRET)
    assert tests is not None
    player, _ = credentials.mint_player(tests, {"player": "42"})
    monkeypatch.setattr(credentials, "_references", {})
    response = stranger.get("/tasks", headers=bearer(player))
    assert refusal(response) == (401, "token_revoked")
    assert "not configured any more" in response.text


@pytest.mark.parametrize("path", ["/tasks", "/props", "/sdapi/v1/progress", "/v1/models", "/metrics"])
def test_a_token_may_come_as_an_api_key(stranger: FlaskClient, path: str) -> None:
    def ask(**headers: str) -> int:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return stranger.get(path, headers=sent).status_code

    assert ask(X_Api_Key=SECRET) == ask(Authorization=f"Bearer {SECRET}") != 401
    assert ask(X_Api_Key=SECRET, Authorization=f"Bearer {SECRET}") == ask(X_Api_Key=SECRET)
    assert ask(X_Api_Key=f"{SECRET}x") == 401


@pytest.mark.parametrize("path", ["/tasks", "/sdapi/v1/progress", "/metrics"])
def test_two_different_tokens_in_one_request_are_refused(stranger: FlaskClient, path: str) -> None:
    for key, sent in (("another-token", SECRET), (SECRET, "another-token")):
        response = stranger.get(path, headers={"X-Api-Key": key} | bearer(sent))
        body = response.get_json()
        assert (response.status_code, (body.get("detail") and body or body["error"])["type"]) == (
            400,
            "conflicting_credentials",
        )
        assert 'error="invalid_request"' in response.headers["WWW-Authenticate"]


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "bearer"])
@pytest.mark.parametrize("key", [SECRET, f"Bearer {SECRET}", f"bearer  {SECRET} "])
@pytest.mark.parametrize("path", ["/v1/messages", "/sdapi/v1/interrupt", "/tasks"])
def test_a_key_counts_beside_an_authorization_without_a_token(
    stranger: FlaskClient, path: str, key: str, authorization: str
) -> None:
    headers = {"X-Api-Key": key, "Authorization": authorization, "Prefer": "respond-async"}
    response = stranger.post(path, json={}, headers=headers)
    assert response.status_code in (200, 202, 400), response.text
    assert "conflicting" not in response.text


@pytest.mark.parametrize("key", ["Bearer", "Bearer ", f"Basic {SECRET}", f"Bearer Bearer {SECRET}"])
def test_what_is_no_key_is_none(stranger: FlaskClient, key: str) -> None:
    assert stranger.get("/tasks", headers={"X-Api-Key": key}).status_code == 401


def test_a_password_and_another_api_key_are_refused_where_both_are_taken(stranger: FlaskClient) -> None:
    login = ("me", SECRET)
    assert stranger.get("/sdapi/v1/progress", auth=login, headers={"X-Api-Key": "another"}).status_code == 400
    assert stranger.get("/sdapi/v1/progress", auth=login, headers={"X-Api-Key": SECRET}).status_code == 200
    # The password may be that of a proxy in front.
    assert stranger.get("/tasks", auth=("proxy", "its-own"), headers={"X-Api-Key": SECRET}).status_code == 200


def test_the_webui_s_routes_offer_a_password_too(stranger: FlaskClient) -> None:
    response = stranger.get("/sdapi/v1/progress", headers=bearer("nobody-has-this"))
    schemes = [challenge.partition(" ")[0] for challenge in response.headers.getlist("WWW-Authenticate")]
    assert (response.status_code, schemes) == (401, ["Bearer", "Basic"])
    assert stranger.get("/tasks").headers.getlist("WWW-Authenticate") == ['Bearer realm="graycat"']


def test_the_scrapers_token_may_come_as_an_api_key(web_with) -> None:
    web = web_with(metrics_token="a-token-for-the-scraper")
    del web.environ_base["HTTP_AUTHORIZATION"]
    assert web.get("/metrics", headers={"X-Api-Key": "a-token-for-the-scraper"}).status_code == 200
    conflicting = bearer("a-token-for-the-scraper") | {"X-Api-Key": SECRET}
    assert web.get("/metrics", headers=conflicting).status_code == 400
