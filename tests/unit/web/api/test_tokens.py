"""API tokens over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from graycat.auth.minted import Grant
from graycat.web.services import services_of
from tests.support.helpers import accepted
from tests.unit.web.conftest import client_of

GAME = {"name": "game", "scopes": ["llm"], "limits": {"rate": 60}, "ttl_s": 3600}
ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
def admin(web_with) -> Iterator[Any]:
    """Return a client whose API token is an admin's."""
    return web_with(admins="tests")


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_a_token_gets_a_new_secret_and_keeps_its_tasks(admin) -> None:
    made = admin.post("/tokens", json=GAME).get_json()
    body = {"kind": "llm.completion", "input": {"prompt": "Hi"}}
    task = admin.post("/tasks", json=body, headers=bearer(made["token"])).get_json()["id"]
    rotated = admin.post(f"/tokens/{made['prefix']}/rotate", json={"overlap_s": 60})
    assert (rotated.status_code, rotated.headers["Cache-Control"]) == (200, "no-store")
    assert rotated.get_json()["former_until"] > 0
    for secret in (made["token"], rotated.get_json()["token"]):
        assert admin.get(f"/tasks/{task}", headers=bearer(secret)).status_code == 200
    again = admin.post(f"/tokens/{made['prefix']}/rotate", json={})
    assert (again.status_code, type_of(again)) == (409, "rotation_under_way")
    assert admin.post(f"/tokens/{made['prefix']}/rotate", json={"overlap_s": 0}).get_json()["former_until"] is None
    assert admin.get("/tasks", headers=bearer(made["token"])).status_code == 401


@pytest.mark.parametrize("body", [{"overlap_s": "1h"}, {"overlap_s": True}, {"overlap_s": -1}, {"overlap": 1}, []])
def test_a_rotation_that_says_something_else_is_refused(admin, body: Any) -> None:
    made = admin.post("/tokens", json=GAME).get_json()
    assert admin.post(f"/tokens/{made['prefix']}/rotate", json=body).status_code == 400
    assert admin.post("/tokens/gc_12345678/rotate", json={}).status_code == 404
    assert admin.post(f"/tokens/{made['prefix']}/rotate", json={}, headers=bearer(made["token"])).status_code == 403


def type_of(response) -> str:
    return str(response.get_json()["error"]["type"])


def test_a_token_is_made_used_listed_and_revoked(admin) -> None:
    made = admin.post("/tokens", json=GAME)
    assert (made.status_code, made.headers["Cache-Control"]) == (201, "no-store")
    secret, prefix = made.get_json()["token"], made.get_json()["prefix"]
    assert admin.post("/completion", json={"prompt": "Hi"}, headers=bearer(secret) | ASYNC).status_code == 202
    (listed,) = admin.get("/tokens").get_json()["tokens"]
    assert {key: listed[key] for key in ("name", "scopes", "limits", "prefix")} == {
        "name": "game",
        "scopes": ["llm"],
        "limits": {"rate": 60},
        "prefix": prefix,
    }
    assert listed["expires_at"] - listed["created_at"] == 3600
    assert listed["last_used_at"] >= listed["created_at"]
    assert secret not in admin.get("/tokens").text
    assert (admin.delete(f"/tokens/{prefix}").status_code, admin.delete(f"/tokens/{prefix}").status_code) == (204, 404)
    assert admin.post("/completion", json={"prompt": "Hi"}, headers=bearer(secret)).status_code == 401


def test_two_tokens_of_one_name_would_share_their_tasks(admin) -> None:
    admin.post("/tokens", json=GAME)
    for name in ("game", "tests"):
        refused = admin.post("/tokens", json={"name": name})
        assert (refused.status_code, type_of(refused)) == (409, "token_name_taken")


@pytest.mark.parametrize("body", [{}, {"name": "a/b"}, {"name": "a", "scopes": ["root"]}, {"name": "a", "rate": 5}])
def test_a_token_that_makes_no_sense_is_refused(admin, body) -> None:
    assert type_of(admin.post("/tokens", json=body)) == "invalid_request_error"
    assert admin.get("/tokens").get_json()["tokens"] == []


@pytest.mark.parametrize(("method", "path"), [("POST", "/tokens"), ("GET", "/tokens"), ("DELETE", "/tokens/gc_1")])
def test_only_an_admin_deals_with_tokens(web, method: str, path: str) -> None:
    refused = web.open(path, method=method, json=GAME)
    assert (refused.status_code, type_of(refused)) == (403, "permission_error")
    assert "'admin'" in refused.get_json()["error"]["message"]


def test_a_game_makes_its_player_a_token(web) -> None:
    made = web.post("/tokens/player", json={"player": "42", "ttl_s": 60, "scopes": ["llm"], "limits": {"rate": 2}})
    assert (made.status_code, made.headers["Cache-Control"]) == (201, "no-store")
    view = made.get_json()
    assert (view["owner"], view["scopes"], view["limits"]) == ("tests/42", ["llm"], {"rate": 2})
    headers = bearer(view["token"])
    accepted_one = web.post("/completion", json={"prompt": "Hi"}, headers=headers | ASYNC)
    assert (accepted_one.status_code, accepted_one.headers["RateLimit-Limit"]) == (202, "2")
    refused = web.post("/sdapi/v1/txt2img", json={"prompt": "a cat"}, headers=headers)
    assert refused.status_code == 403


def test_players_do_not_see_each_other_s_tasks_nor_their_game_s(web, records) -> None:
    secrets = [web.post("/tokens/player", json={"player": name}).get_json()["token"] for name in ("a", "b")]
    tasks = [accepted(records, owner=owner) for owner in ("tests/a", "tests/b", "tests")]
    seen = [[web.get(f"/tasks/{t}", headers=bearer(s)).status_code for t in tasks] for s in secrets]
    assert seen == [[200, 404, 404], [404, 200, 404]]
    assert [web.get(f"/tasks/{task}").status_code for task in tasks] == [404, 404, 200]


def test_a_player_makes_no_tokens(web) -> None:
    secret = web.post("/tokens/player", json={"player": "a"}).get_json()["token"]
    refused = web.post("/tokens/player", json={"player": "b"}, headers=bearer(secret))
    assert (refused.status_code, type_of(refused)) == (403, "permission_error")


def test_a_player_gets_no_more_than_its_game_has(admin) -> None:
    secret = admin.post("/tokens", json=GAME).get_json()["token"]
    for body, status in (({"scopes": ["sd"]}, 403), ({"scopes": ["admin"]}, 403), ({"limits": {"rate": 61}}, 400)):
        response = admin.post("/tokens/player", json={"player": "a"} | body, headers=bearer(secret))
        assert response.status_code == status


def test_a_revoked_game_s_players_are_sent_away(admin) -> None:
    made = admin.post("/tokens", json=GAME).get_json()
    player = admin.post("/tokens/player", json={"player": "a"}, headers=bearer(made["token"])).get_json()["token"]
    ask = lambda: admin.post("/completion", json={"prompt": "Hi"}, headers=bearer(player) | ASYNC).status_code  # noqa: E731
    assert ask() == 202
    admin.delete(f"/tokens/{made['prefix']}")
    assert ask() == 401


def test_without_a_token_there_are_none(web) -> None:
    del web.environ_base["HTTP_AUTHORIZATION"]
    assert [web.post(path, json={"player": "a"}).status_code for path in ("/tokens", "/tokens/player")] == [401, 401]


def test_a_minted_admin_is_one(web) -> None:
    secret, _ = services_of(web.application).authenticator.mint(Grant("boss", frozenset({"admin"})))
    client = client_of(web.application)
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {secret}"
    assert client.get("/tokens").status_code == 200
    assert client.post("/completion", json={"prompt": "Hi"}).status_code == 403


def test_a_token_can_be_asked_who_it_is(admin, web) -> None:
    made = admin.post("/tokens", json=GAME).get_json()
    response = admin.get("/tokens/me", headers=bearer(made["token"]))
    assert (response.status_code, response.headers["Cache-Control"]) == (200, "no-store")
    assert response.get_json() == {
        "name": "game",
        "scopes": ["llm"],
        "limits": {"rate": 60},
        "expires_at": made["expires_at"],
    }
    assert web.get("/tokens/me").get_json() == {
        "name": "tests",
        "scopes": ["batch", "llm", "sd"],
        "limits": {},
        "expires_at": None,
    }
    assert web.get("/tokens/me", headers={"Authorization": ""}).status_code == 401
    player = admin.post("/tokens/player", json={"player": "anna"}, headers=bearer(made["token"])).get_json()
    assert admin.get("/tokens/me", headers=bearer(player["token"])).get_json()["name"] == "game/anna"
