"""What the tests of the task API share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, g
from flask.testing import FlaskClient

from graycat.auth.tokens import ApiTokens
from graycat.web.api.task_requests import scoped_ids

COMPLETION: dict[str, Any] = {"kind": "llm.completion", "input": {"prompt": "Hi"}}


@pytest.fixture
def submit(web: FlaskClient) -> Callable[..., str]:
    """Return how to submit a task; its id. Fields of the body are keywords, those of the engine are in ``input``."""

    def post(**body: Any) -> str:
        response = web.post("/tasks", json=COMPLETION | body)
        assert response.status_code == 202, response.text
        task_id: str = response.get_json()["id"]
        return task_id

    return post


@pytest.fixture
def as_caller(broker: Any, shared_app: Flask, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be in a request of the API token ``tests``, which looks at the fleet anew."""
    monkeypatch.setattr("graycat.web.services.WORKERS_CACHE_S", 0.0)
    with shared_app.test_request_context():
        g.token = next(iter(ApiTokens.from_settings(broker.settings)))
        g.owner, g.request_id = "tests", "r-1"
        yield


def named(alias: str) -> str:
    """Return the id of the task that the API token ``tests`` calls so."""
    return scoped_ids("tests", alias)["llm"]
