"""Requests that wait end with their API tokens, in each process and on each kind of route."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from graycat.auth.minted import Grant
from graycat.broker import keys
from graycat.queue.records import TaskRecords
from graycat.web.services import Services, services_of
from graycat.web.streaming.token_watch import TokenWatch
from tests.support.broker import BrokerClient
from tests.support.helpers import AT_ONCE_S, Stopwatch, eventually, outcome_of, sse
from tests.support.loop_cases import count

#: Seconds in which a token's calls end with it.
ENDS_AFTER_S = 5.0
#: Calls that wait for an answer: path, body, and the queue of their task.
CALLS: list[tuple[str, dict[str, Any], str]] = [
    ("/completion", {"prompt": "Hi"}, "llm"),
    ("/completion", {"prompt": "Hi", "stream": True}, "llm"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}, "llm"),
    ("/v1/messages", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9, "stream": True}, "llm"),
    ("/tokenize", {"content": "Hi"}, "llm.quick"),
    ("/sdapi/v1/txt2img", {"prompt": "a cat"}, "sd"),
]


@pytest.fixture
def services(web: FlaskClient) -> Services:
    return services_of(web.application)


@pytest.fixture
def minted(services: Services) -> Callable[..., dict[str, str]]:
    """Return how to mint a token of a name; the headers that send it."""

    def mint(name: str = "game", **fields: Any) -> dict[str, str]:
        secret, _ = services.authenticator.mint(Grant(name, **fields))
        return {"Authorization": f"Bearer {secret}"}

    return mint


def type_of(body: str) -> str:
    """Return the type of the last error in an answer, whatever its form."""
    error = json.loads(body[body.index("{", body.rindex("data: ") if "data: " in body else 0) :])
    return str(error.get("type") if "detail" in error else error["error"]["type"])


def waiting(services: Services, count: int) -> None:
    eventually(lambda: len(services.gateway.hub.subscriptions()) == count)


@pytest.mark.parametrize(("path", "body", "queue"), CALLS, ids=[f"{path} {len(body)}" for path, body, _ in CALLS])
def test_a_call_that_waits_ends_with_its_token(
    web: FlaskClient,
    services: Services,
    minted,
    take,
    records: TaskRecords,
    path: str,
    body: dict[str, Any],
    queue: str,
) -> None:
    answer = outcome_of(lambda: web.post(path, json=body, headers=minted()))
    attempt = take(queue)
    watch = Stopwatch()
    services.authenticator.minted.revoke("game")
    response: TestResponse = answer()
    assert watch.seconds < ENDS_AFTER_S
    assert response.status_code == 401
    assert type_of(response.text) == "token_revoked"
    assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]
    # Its worker is told to stop.
    eventually(lambda: records.get(attempt.task_id).get("cancel") == "cancel")


def test_a_stream_under_way_ends_with_an_error_event(
    web: FlaskClient, services: Services, minted, take, records: TaskRecords
) -> None:
    body = {"prompt": "Hi", "stream": True}
    answer = outcome_of(lambda: web.post("/completion", json=body, headers=minted()))
    attempt = take()
    records.publish(attempt, 1, sse("Hel"))
    chunks = iter(answer().response)
    next(chunks)
    services.authenticator.minted.revoke("game")
    (last,) = [bytes(chunk) for chunk in chunks if chunk != b"\n"]  # type: ignore[arg-type]
    assert type_of(last.decode()) == "token_revoked"


def test_players_and_followers_end_with_it_and_nobody_else(
    web: FlaskClient, services: Services, minted, take, records: TaskRecords
) -> None:
    headers = minted()
    token = services.authenticator.find(headers["Authorization"].removeprefix("Bearer "))
    assert token is not None
    secret, _ = services.authenticator.mint_player(token, {"player": "42"})
    player = {"Authorization": f"Bearer {secret}"}
    other = minted("other")
    body = {"kind": "llm.completion", "input": {"prompt": "Hi"}}
    address = web.post("/tasks", json=body, headers=headers).headers["Location"]
    answers: dict[str, Callable[[], Any]] = {
        "own": outcome_of(lambda: web.get(f"{address}?wait=60", headers=headers)),
        "player": outcome_of(lambda: web.post("/completion", json={"prompt": "Hi"}, headers=player)),
        "events": outcome_of(lambda: web.get(f"{address}/events", headers=headers).text),
        "other": outcome_of(lambda: web.post("/tokenize", json={"content": "Hi"}, headers=other)),
    }
    waiting(services, len(answers))
    services.authenticator.minted.revoke("game")
    assert [type_of(answers[name]().text) for name in ("own", "player")] == ["token_revoked"] * 2
    assert "event: closing" in answers["events"]()
    assert "token_revoked" in answers["events"]()
    records.succeed(take("llm.quick"), 200, b"{}")
    assert answers["other"]().status_code == 200


def test_one_that_expires_ends_them_too(
    web: FlaskClient, services: Services, minted, take, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = minted(ttl_s=3600)
    answer = outcome_of(lambda: web.post("/completion", json={"prompt": "Hi"}, headers=headers))
    take()
    later = time.time() + 3601
    monkeypatch.setattr(services.authenticator.minted, "_now", lambda: later)
    assert type_of(answer().text) == "token_expired"


def test_if_they_may_finish_they_do(web_with, take, records: TaskRecords) -> None:
    web = web_with(revoked_tasks="finish")
    tokens = services_of(web.application).authenticator
    secret, _ = tokens.mint(Grant("game"))
    headers = {"Authorization": f"Bearer {secret}"}
    answer = outcome_of(lambda: web.post("/tokenize", json={"content": "Hi"}, headers=headers))
    attempt = take("llm.quick")
    tokens.minted.revoke("game")
    assert not services_of(web.application).token_watch.loop._thread.is_alive()
    records.succeed(attempt, 200, b"{}")
    assert answer().status_code == 200


def test_without_minted_tokens_the_broker_is_not_asked(
    web: FlaskClient, services: Services, take, records: TaskRecords, client: BrokerClient
) -> None:
    answer = outcome_of(lambda: web.post("/tokenize", json={"content": "Hi"}))
    attempt = take("llm.quick")
    before = client.info("commandstats").get("cmdstat_zmscore")
    watch = TokenWatch(services.gateway.hub, services.authenticator.minted)
    assert watch.step() == 0
    assert client.info("commandstats").get("cmdstat_zmscore") == before
    records.succeed(attempt, 200, b"{}")
    answer()


def test_a_look_that_fails_is_counted_and_the_next_one_comes(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graycat.web.streaming.token_watch.INTERVAL_S", 0.01)
    watch = TokenWatch(services.gateway.hub, services.authenticator.minted)
    looks: list[int] = []

    def fail() -> int:
        looks.append(1)
        raise ValueError("not expected")

    monkeypatch.setattr(watch, "step", fail)
    before = count("token watch")
    watch.start()
    eventually(lambda: len(looks) > 2)
    watch.loop.request_stop()
    watch.loop.join(AT_ONCE_S)
    assert count("token watch") >= before + 2


def test_at_its_start_it_notes_when_tokens_of_an_earlier_release_expire(
    services: Services, minted, client: BrokerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graycat.web.streaming.token_watch.INTERVAL_S", 0.01)
    minted("old", ttl_s=600)
    client.delete(keys.TOKEN_ENDS)
    watch = TokenWatch(services.gateway.hub, services.authenticator.minted)
    watch.start()
    eventually(lambda: client.zscore(keys.TOKEN_ENDS, "old"))
    watch.loop.request_stop()
    watch.loop.join(AT_ONCE_S)


def test_a_request_is_refused_once(web: FlaskClient, services: Services, minted) -> None:
    subscription = services.gateway.hub.subscribe_new("0" * 32)
    subscription.token = services.authenticator.find(minted()["Authorization"].removeprefix("Bearer "))
    services.authenticator.minted.revoke("game")
    watch = TokenWatch(services.gateway.hub, services.authenticator.minted)
    eventually(lambda: watch.step() or subscription.refusal)
    assert watch.step() == 0
    services.gateway.hub.unsubscribe(subscription)
