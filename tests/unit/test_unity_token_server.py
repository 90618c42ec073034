"""The game's own server of examples/unity, and what it makes of graycat's answers."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.support.scripted import error
from tests.support.servers import Answer, http_server, reply

SOURCE = Path(__file__).resolve().parents[2] / "examples" / "unity" / "token_server.py"
ALICE = {"Authorization": "Bearer s1"}

pytestmark = pytest.mark.not_covered


def serve(url: str, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """Return a client of the server, which calls graycat at an address."""
    for name, value in (("GRAYCAT", url), ("GRAYCAT_TOKEN", "gc_game"), ("GAME_SESSIONS", "s1:alice,s2:bob")):
        monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("token_server", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    client: FlaskClient = module.app.test_client()
    return client


def test_a_player_gets_a_token_and_the_games_key_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    with http_server({"POST /tokens/player": reply(201, {"token": "gp_1"})}) as seen:
        answer = serve(seen.url, monkeypatch).post("/token", headers=ALICE)
    assert (answer.status_code, answer.json) == (201, {"token": "gp_1", "expires_in_s": 300, "server": seen.url})
    assert seen.headers[0]["authorization"] == "Bearer gc_game"
    (asked,) = seen.bodies()
    # Without scopes: a key that may chat alone mints as well.
    assert sorted(asked) == ["limits", "player", "ttl_s"]
    assert (asked["player"], asked["ttl_s"]) == ("alice", 300)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer of nobody"}], ids=["none", "unknown"])
def test_who_is_not_logged_in_gets_none(headers: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with http_server({}) as seen:
        answer = serve(seen.url, monkeypatch).post("/token", headers=headers)
    assert (answer.status_code, json.loads(answer.data)["error"]["type"], seen.requests) == (401, "not_logged_in", [])


@pytest.mark.parametrize(
    ("graycat", "told"),
    [
        (error(503, "broker_unavailable", Retry_After="2"), (503, "broker_unavailable", "2")),
        (error(429, "limit_exceeded", Retry_After="9"), (429, "limit_exceeded", "9")),
        (error(401, "token_revoked"), (500, "game_key_refused", None)),
        (error(403, "permission_error"), (500, "game_key_refused", None)),
    ],
    ids=["503", "429", "401", "403"],
)
def test_a_refusal_of_graycat_is_the_game_s_to_wait_for(
    graycat: Answer, told: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with http_server({"POST /tokens/player": graycat}) as seen:
        answer = serve(seen.url, monkeypatch).post("/token", headers=ALICE)
    assert (answer.status_code, json.loads(answer.data)["error"]["type"], answer.headers.get("Retry-After")) == told


def test_a_graycat_that_is_gone_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    with http_server({}) as seen:
        url = seen.url
    answer = serve(url, monkeypatch).post("/token", headers=ALICE)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")


def test_its_log_says_what_the_operator_has_to_mend(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with http_server({"POST /tokens/player": error(401, "token_revoked")}) as seen:
        client = serve(seen.url, monkeypatch)
        client.post("/token", headers=ALICE)
    client.post("/token", headers=ALICE)
    refused, gone = (record.getMessage() for record in caplog.records)
    assert refused.startswith(f"{seen.url} refuses GRAYCAT_TOKEN: ")
    assert "token_revoked" in refused
    assert gone.startswith(f"{seen.url} does not answer")
    assert "gc_game" not in caplog.text
