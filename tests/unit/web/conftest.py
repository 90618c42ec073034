"""The web application by Flask's test client, and a hand that plays its workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from graycat.fleet import Fleet, WorkerStatus
from graycat.settings import Settings
from graycat.web import create_app
from tests.unit.helpers import BEARER, Valkey, changed


def client_of(app: Flask) -> FlaskClient:
    """Return a client of an application, with its API token."""
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = BEARER["Authorization"]
    return client


@pytest.fixture(scope="session")
def shared_app(valkey: Valkey) -> Flask:
    return create_app(valkey.settings)


@pytest.fixture
def web(broker: Valkey, shared_app: Flask, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """Return a client of the application that all tests share, which looks at the fleet anew each time."""
    monkeypatch.setattr("graycat.web.FLEET_FRESH_S", 0.0)
    return client_of(shared_app)


@pytest.fixture
def web_with(broker: Valkey) -> Callable[..., FlaskClient]:
    """Return how to make a client of an application with some settings changed."""
    return lambda **changes: client_of(create_app(changed(broker.settings, **changes)))


@pytest.fixture
def web_without_broker(no_broker: Settings) -> FlaskClient:
    return client_of(create_app(no_broker))


@pytest.fixture
def report(broker: Valkey) -> Callable[..., None]:
    """Return how to report a worker that serves some queues."""

    def report_worker(*queues: str, **changes: Any) -> None:
        fields = {
            "name": f"{queues[0]}@box",
            "engine": "xllamacpp",
            "engine_state": "ready",
            "consuming": True,
            "slots": 4,
            "busy": 0,
            "props": "{}",
        }
        Fleet(broker.client).report(WorkerStatus(queues=queues, **{**fields, **changes}))

    return report_worker
