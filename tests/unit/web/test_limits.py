"""Limits of an API token, as a client meets them."""

from __future__ import annotations

import json
import logging

import pytest

from graycat.auth.limits import Limits
from graycat.auth.minted import Grant
from graycat.broker import keys
from graycat.web.services import services_of
from tests.support.broker import BrokerClient
from tests.support.helpers import BEARER, outcome_of

ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
def as_game(web):
    """Return how to call with a token of certain limits: a function of path and JSON that never waits."""

    def limited(*scopes: str, **limits: int):
        grant = Grant("game", frozenset(scopes or ("llm", "sd")), Limits(**limits))
        secret, _ = services_of(web.application).authenticator.mint(grant)
        headers = {"Authorization": f"Bearer {secret}"} | ASYNC
        return lambda path, **body: web.post(path, json=body, headers=headers)

    return limited


def body_of(client: BrokerClient, response) -> dict[str, object]:
    """Return what the engine gets of an accepted request."""
    task_id = response.get_json()["id"]
    return dict(json.loads(client.hget(keys.record_key(task_id), "body") or b"null"))


def test_rate_limit_headers_count_down(as_game) -> None:
    ask = as_game(rate=2)
    responses = [ask("/completion", prompt="Hi") for _ in range(3)]
    assert [response.status_code for response in responses] == [202, 202, 429]
    assert [response.headers["RateLimit-Remaining"] for response in responses] == ["1", "0", "0"]
    assert {response.headers["RateLimit-Limit"] for response in responses} == {"2"}
    refused = responses[2]
    assert 1 <= int(refused.headers["Retry-After"]) == int(refused.headers["RateLimit-Reset"]) <= 60
    error = refused.get_json()["error"]
    assert (error["code"], error["type"]) == (429, "limit_exceeded")
    assert "2 requests a minute" in error["message"]


def test_a_waiting_request_has_rate_limit_headers_too(web, as_game, take, records) -> None:
    as_game(rate=2)
    services = services_of(web.application)
    services.authenticator.minted.revoke("game")
    secret, _ = services.authenticator.mint(Grant("game", limits=Limits(rate=2)))
    headers = {"Authorization": f"Bearer {secret}"}
    response = outcome_of(lambda: web.post("/tokenize", json={"content": "Hi"}, headers=headers))
    records.succeed(take("llm.quick"), 200, b"{}")
    assert (response().status_code, response().headers["RateLimit-Remaining"]) == (200, "1")


def test_unfinished_tasks_are_a_limit(as_game, take, records) -> None:
    ask = as_game(concurrency=1)
    assert ask("/completion", prompt="Hi").status_code == 202
    refused = ask("/tasks", kind="llm.completion", input={"prompt": "Hi"})
    assert (refused.status_code, refused.get_json()["error"]["type"]) == (429, "limit_exceeded")
    assert int(refused.headers["Retry-After"]) >= 1
    records.succeed(take(), 200, b"{}")
    assert ask("/tasks", kind="llm.completion", input={"prompt": "Hi"}).status_code == 202


def test_a_webui_client_reads_it_in_its_own_form(as_game) -> None:
    ask = as_game(rate=1)
    ask("/completion", prompt="Hi")
    refused = ask("/sdapi/v1/txt2img", prompt="a cat")
    assert refused.status_code == 429
    assert "1 requests a minute" in refused.get_json()["detail"]


def test_what_no_queue_took_is_not_counted(web_with) -> None:
    web = web_with(queue_cap=1)
    secret, _ = services_of(web.application).authenticator.mint(Grant("game", limits=Limits(rate=2)))
    headers = {"Authorization": f"Bearer {secret}"} | ASYNC
    statuses = [web.post("/completion", json={"prompt": "Hi"}, headers=headers).status_code for _ in range(3)]
    assert statuses == [202, 503, 503]


def test_a_token_without_limits_asks_the_broker_nothing(web, client, monkeypatch) -> None:
    limiter = services_of(web.application).limiter
    monkeypatch.setattr(limiter, "admit", lambda *_: pytest.fail("asked"))
    response = web.post("/completion", json={"prompt": "Hi"}, headers=BEARER | ASYNC)
    assert response.status_code == 202
    assert not [name for name in response.headers.keys() if name.startswith("RateLimit")]  # noqa: SIM118
    assert client.keys("graycat:rate:*") == []


def test_a_task_that_is_put_again_is_not_counted_again(web, as_game) -> None:
    as_game(rate=1)
    services = services_of(web.application)
    services.authenticator.minted.revoke("game")
    secret, _ = services.authenticator.mint(Grant("game", limits=Limits(rate=1)))
    headers, body = {"Authorization": f"Bearer {secret}"}, {"kind": "llm.completion", "input": {"prompt": "Hi"}}
    assert [web.put("/tasks/mine", json=body, headers=headers).status_code for _ in range(2)] == [202, 200]
    assert web.put("/tasks/other", json=body, headers=headers).status_code == 429


CAPPED = [
    ("/completion", {"prompt": "Hi"}, {"n_predict": 100}),
    ("/completion", {"prompt": "Hi", "n_predict": -1}, {"n_predict": 100}),
    ("/infill", {"input_prefix": "a"}, {"n_predict": 100}),
    ("/v1/chat/completions", {"messages": []}, {"max_tokens": 100}),
    ("/v1/chat/completions", {"messages": [], "max_completion_tokens": 7}, {"max_tokens": 7}),
    ("/v1/completions", {"prompt": "Hi", "max_tokens": None}, {"max_tokens": 100}),
    ("/v1/responses", {"input": "Hi"}, {"max_output_tokens": 100}),
    ("/v1/messages", {"messages": []}, {"max_tokens": 100}),
]


@pytest.mark.parametrize(("path", "body", "written"), CAPPED)
def test_the_token_limit_is_written_into_a_body_without_a_length(as_game, client, path, body, written) -> None:
    sent = body_of(client, as_game(max_tokens=100)(path, **body))
    assert sent == body | written | ({"stream": True} if path == "/completion" else {})


@pytest.mark.parametrize(("path", "body"), [("/v1/messages", {"messages": [], "max_tokens": 100}), ("/tokenize", {})])
def test_a_body_within_the_limits_passes_unchanged(web, as_game, client, path, body) -> None:
    assert body_of(client, as_game(max_tokens=100)(path, **body)) == body


@pytest.mark.parametrize("path", ["/completion", "/v1/completions", "/tasks"])
def test_a_longer_answer_is_refused(as_game, path) -> None:
    given = {"prompt": "Hi", "max_tokens": 101}
    body = given if path != "/tasks" else {"kind": "llm.completion", "input": given}
    refused = as_game(max_tokens=100)(path, **body)
    assert (refused.status_code, refused.get_json()["error"]["type"]) == (429, "limit_exceeded")
    assert "100 tokens" in refused.get_json()["error"]["message"]
    # Waiting would not help.
    assert "Retry-After" not in refused.headers


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/sdapi/v1/txt2img", {"prompt": "a cat", "width": 513, "height": 512}),
        ("/sdapi/v1/txt2img", {"prompt": "a cat", "n_iter": 2}),
        ("/generate-image", {"prompt": "a cat", "enable_hr": True}),
        ("/v1/images/generations", {"prompt": "a cat", "size": "1024x1024"}),
        ("/tasks", {"kind": "sd.txt2img", "input": {"prompt": "a cat", "width": 1024}}),
    ],
)
def test_more_pixels_are_refused(as_game, path, body) -> None:
    refused = as_game(max_pixels=512 * 512)(path, **body)
    assert refused.status_code == 429
    assert "262144 pixels" in str(refused.get_json())


def test_as_many_pixels_as_allowed_are_not(as_game) -> None:
    assert as_game(max_pixels=512 * 512)("/sdapi/v1/txt2img", prompt="a cat").status_code == 202


def test_without_a_broker_a_limited_player_gets_retry_after(web_without_broker, caplog) -> None:
    caplog.set_level(logging.CRITICAL)
    authenticator = services_of(web_without_broker.application).authenticator
    body = {"player": "42", "limits": {"rate": 1}}
    secret = web_without_broker.post("/tokens/player", json=body).get_json()["token"]
    response = web_without_broker.post(
        "/completion", json={"prompt": "Hi"}, headers={"Authorization": f"Bearer {secret}"}
    )
    assert (response.status_code, response.get_json()["error"]["type"]) == (503, "broker_unavailable")
    found = authenticator.find(secret)
    assert found is not None
    assert found.name == "tests/42"
