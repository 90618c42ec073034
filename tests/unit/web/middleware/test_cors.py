from __future__ import annotations

import logging
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from graycat.auth.limits import Limits
from graycat.auth.minted import Grant
from graycat.metrics import web as metrics
from graycat.web import create_app
from graycat.web.middleware.cors import PAGES
from graycat.web.services import services_of
from tests.support.helpers import Valkey, changed
from tests.support.metered import value
from tests.unit.web.conftest import client_of

GAME = "https://game.example"
PUBLIC_URL = "https://play.example/gpu"
FROM_GAME = {"Origin": GAME}
ASK = FROM_GAME | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


@pytest.fixture(scope="module")
def open_app(valkey: Valkey) -> Flask:
    """Return a server that pages of the game may call."""
    origins = f"{GAME},https://other.example"
    return create_app(changed(valkey.settings, cors_origins=origins, public_url=PUBLIC_URL))


@pytest.fixture
def web(broker: Valkey, open_app: Flask) -> FlaskClient:
    return client_of(open_app)


def told(response: Any) -> tuple[str | None, str | None]:
    """Return whose pages may read an answer, and what caches are told."""
    return response.headers.get("Access-Control-Allow-Origin"), response.headers.get("Vary")


@pytest.mark.parametrize("prefix", ["", "/gpu"])
def test_answers_of_all_sorts_are_for_the_page(web: FlaskClient, prefix: str) -> None:
    task = {"kind": "llm.completion", "input": {"prompt": "Hi"}}
    accepted = web.post(f"{prefix}/tasks", json=task, headers=FROM_GAME)
    path = prefix + accepted.headers["Location"].removeprefix(PUBLIC_URL)
    unchanged = web.get(path, headers=FROM_GAME | {"If-None-Match": accepted.headers["ETag"]})
    answers = [accepted, unchanged, web.get(f"{prefix}/nothing", headers=FROM_GAME)]
    answers.append(web.get(f"{prefix}/tasks", headers=FROM_GAME | {"Authorization": "Bearer wrong"}))
    answers.append(web.get(f"{prefix}/completion", headers=FROM_GAME))
    answers.append(web.post(f"{prefix}/completion", data="{", headers=FROM_GAME))
    assert [answer.status_code for answer in answers] == [202, 304, 404, 401, 405, 400]
    assert [told(answer) for answer in answers] == [(GAME, "Origin")] * len(answers)
    assert "Location" in accepted.headers["Access-Control-Expose-Headers"]
    assert not [name for answer in answers for name, _ in answer.headers if "Credentials" in name]


def test_a_page_is_told_of_limits_and_may_read_streams(web: FlaskClient, open_app: Flask) -> None:
    grant = Grant("game", frozenset({"llm"}), Limits(rate=1))
    secret, _ = services_of(open_app).authenticator.mint(grant)
    headers = FROM_GAME | {"Authorization": f"Bearer {secret}"}
    task = {"kind": "llm.completion", "input": {"prompt": "Hi"}}
    accepted, refused = (web.post("/tasks", json=task, headers=headers) for _ in range(2))
    path = accepted.headers["Location"].removeprefix(PUBLIC_URL)
    assert web.post(f"{path}/cancel", headers=headers).status_code == 200
    events = web.get(f"{path}/events", headers=headers)
    assert [answer.status_code for answer in (accepted, refused, events)] == [202, 429, 200]
    assert events.mimetype == "text/event-stream"
    assert [told(answer) for answer in (refused, events)] == [(GAME, "Origin")] * 2
    assert "Retry-After" in refused.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://game.example.evil", ""])
def test_other_pages_get_nothing(web: FlaskClient, origin: str) -> None:
    assert told(web.get("/tasks", headers={"Origin": origin})) == (None, "Origin")
    asked = web.options("/tasks", headers=ASK | {"Origin": origin})
    assert told(asked) == (None, "Origin")
    assert "Access-Control-Allow-Headers" not in asked.headers


def test_a_preflight_needs_no_token_and_no_broker(
    web: FlaskClient, broker: Valkey, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delitem(web.environ_base, "HTTP_AUTHORIZATION")
    labels = {"route": "preflight", "method": "OPTIONS", "status": "204", "token": "-"}
    before, commands = value(metrics, "graycat_http_requests_total", **labels), broker.client.info("stats")
    with caplog.at_level(logging.INFO):
        answers = [web.options(path, headers=ASK) for path in ("/completion", "/gpu/tasks/a/events", "/v1/nothing")]
    assert [(answer.status_code, answer.data) for answer in answers] == [(204, b"")] * 3
    assert [told(answer) for answer in answers] == [(GAME, "Origin")] * 3
    allowed = answers[0].headers["Access-Control-Allow-Headers"]
    assert {"Authorization", "Last-Event-ID", "Idempotency-Key", "*"} <= set(allowed.split(", "))
    assert "PUT" in answers[0].headers["Access-Control-Allow-Methods"]
    assert answers[0].headers["Access-Control-Max-Age"] == "7200"
    assert value(metrics, "graycat_http_requests_total", **labels) == before + 3
    assert not [record for record in caplog.records if record.message == "request"]
    # The hub listens, and we have asked twice.
    asked = broker.client.info("stats")["total_commands_processed"] - commands["total_commands_processed"]
    assert asked <= 2


def test_a_question_that_is_no_preflight_is_the_application_s(web: FlaskClient) -> None:
    answer = web.options("/tasks", headers=FROM_GAME)
    assert (answer.status_code, "POST" in answer.headers["Allow"]) == (200, True)


@pytest.mark.parametrize(
    ("path", "is_page"),
    [
        ("/docs", True),
        ("/metrics", True),
        ("/batches/b1/gallery", True),
        ("/batches/b1/gallery/state", True),
        ("/batches/b1/gallery/images/1", True),
        ("/batches/b1/gallery/link", False),
        ("/batches/b1/gallery/link/x", True),
        ("/batches/b1/items", False),
        ("/batches/b1/items/1/image", False),
        ("/tasks/gallery", False),
        ("/openapi.json", False),
    ],
)
def test_pages_are_not_for_other_pages(web: FlaskClient, path: str, is_page: bool) -> None:
    assert (PAGES.fullmatch(path) is not None) is is_page
    assert (told(web.get(path, headers=FROM_GAME))[0] is None) is is_page
    assert (told(web.get("/gpu" + path, headers=FROM_GAME))[0] is None) is is_page


def test_without_origins_nothing_is_said(broker: Valkey, shared_app: Flask) -> None:
    answer = client_of(shared_app).get("/tasks", headers=FROM_GAME)
    assert told(answer) == (None, None)
    assert client_of(shared_app).options("/tasks", headers=ASK).status_code == 200
