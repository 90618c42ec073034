"""Usage over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from graycat.auth.minted import Grant
from graycat.broker.client import now_ms
from graycat.broker.keys import usage_key
from graycat.usage.amounts import day_of
from graycat.usage.counter import UsageCounter
from graycat.web.services import services_of
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey

NOTHING = {
    "requests": 0, "failed": 0, "cancelled": 0, "prompt_tokens": 0, "completion_tokens": 0, "images": 0,
    "gpu_seconds": 0.0,
}  # fmt: skip


@pytest.fixture
def used(client: BrokerClient) -> str:
    """Have three API tokens used something today; return the day."""
    today = day_of(now_ms(client)).isoformat()
    for owner, family, requests in (("game", "llm", 2), ("tests", "llm", 3), ("tests", "sd", 5)):
        client.hset(usage_key(today), f"{owner} {family} requests", requests)
    return today


@pytest.fixture
def minted(web: Any) -> Callable[..., dict[str, str]]:
    """Return how to mint an API token; the headers that carry it."""

    def mint(name: str, *scopes: str) -> dict[str, str]:
        grant = Grant.read({"name": name, "scopes": list(scopes)})
        return {"Authorization": f"Bearer {services_of(web.application).authenticator.mint(grant)[0]}"}

    return mint


def owners(response: Any) -> list[tuple[str, str, int]]:
    assert response.status_code == 200, response.json
    return [(row["owner"], row["family"], row["requests"]) for row in response.json["rows"]]


def test_a_task_shows_as_usage_when_it_is_counted(web, broker: Valkey, take, records) -> None:
    assert web.post("/completion", json={"prompt": "Hi"}, headers={"Prefer": "respond-async"}).status_code == 202
    assert web.get("/usage").json["rows"] == []
    attempt = take("llm")
    attempt.made.prompt_tokens, attempt.made.completion_tokens = 7, 3
    records.succeed(attempt, 200, b"{}")
    UsageCounter(broker.client, broker.settings).step()
    shown = web.get("/usage").json
    (row,) = shown["rows"]
    today = day_of(now_ms(broker.client)).isoformat()
    expected = NOTHING | {"requests": 1, "prompt_tokens": 7, "completion_tokens": 3}
    assert row == {"owner": "tests", "day": today, "family": "llm"} | expected | {"gpu_seconds": row["gpu_seconds"]}
    assert (shown["to"], shown["total"]["requests"], 0 <= row["gpu_seconds"] < 60) == (today, 1, True)


def test_a_token_sees_its_own_usage_and_an_admin_all(web, used: str, minted) -> None:
    assert owners(web.get("/usage")) == [("tests", "llm", 3), ("tests", "sd", 5)]
    assert owners(web.get("/usage?owner=tests")) == owners(web.get("/usage"))
    admin = minted("boss", "admin")
    everything = [("game", "llm", 2), ("tests", "llm", 3), ("tests", "sd", 5)]
    assert owners(web.get("/usage", headers=admin)) == everything
    assert owners(web.get("/usage?owner=game", headers=admin)) == everything[:1]
    assert owners(web.get("/usage?owner=nobody", headers=admin)) == []
    # A token that may do nothing but be watched.
    assert owners(web.get("/usage", headers=minted("game", "metrics"))) == everything[:1]


def test_another_s_usage_is_refused(web, used: str) -> None:
    for owner in ("game", "", "tests/player"):
        refused = web.get(f"/usage?owner={owner}")
        assert (refused.status_code, refused.json["error"]["type"]) == (403, "permission_error")


def test_a_player_does_not_see_what_its_game_uses(web, used: str) -> None:
    player = web.post("/tokens/player", json={"player": "one"}).json["token"]
    refused = web.get("/usage", headers={"Authorization": f"Bearer {player}"})
    assert (refused.status_code, refused.json["error"]["type"]) == (403, "permission_error")


def test_days_are_chosen(web, used: str) -> None:
    shown = web.get("/usage?from=2020-01-01&to=2020-01-31").json
    assert shown == {"from": "2020-01-01", "to": "2020-01-31", "rows": [], "total": NOTHING}
    assert owners(web.get(f"/usage?from={used}&to={used}")) == [("tests", "llm", 3), ("tests", "sd", 5)]


@pytest.mark.parametrize("query", ["from=now", "to=", "from=2026-11-02&to=2026-11-01", "from=1999-01-01", "to=%FF"])
def test_days_that_are_none_are_a_400(web, query: str) -> None:
    refused = web.get(f"/usage?{query}")
    assert (refused.status_code, refused.json["error"]["type"]) == (400, "invalid_request_error")


def test_without_an_api_token_there_is_no_usage(web) -> None:
    assert web.get("/usage", headers={"Authorization": ""}).status_code == 401


def test_without_a_broker_it_is_a_503(web_without_broker) -> None:
    assert web_without_broker.get("/usage").status_code == 503
