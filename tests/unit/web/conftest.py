"""The web application by Flask's test client, and a hand that plays its workers."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from graycat.engines.base import EngineInfo
from graycat.fleet.reports import WorkerStatus
from graycat.fleet.workers import WorkerRegistry
from graycat.images.replies import content_type
from graycat.queue.models import Attempt
from graycat.queue.records import TaskRecords
from graycat.settings import Settings
from graycat.storage import open_artifacts
from graycat.web import create_app
from graycat.web.services import services_of
from tests.support.helpers import BEARER, Valkey, changed


def client_of(app: Flask) -> FlaskClient:
    """Return a client of an application, with its API token."""
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = BEARER["Authorization"]
    return client


@pytest.fixture
def web(broker: Valkey, shared_app: Flask, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """Return a client of the application that all tests share, which looks at the fleet anew each time."""
    monkeypatch.setattr("graycat.web.services.WORKERS_CACHE_S", 0.0)
    services_of(shared_app).last_serving.clear()
    return client_of(shared_app)


@pytest.fixture
def web_with(broker: Valkey) -> Callable[..., FlaskClient]:
    """Return how to make a client of an application with some settings changed."""
    return lambda **changes: client_of(create_app(changed(broker.settings, **changes)))


@pytest.fixture
def web_without_broker(no_broker: Settings) -> FlaskClient:
    return client_of(create_app(no_broker))


@pytest.fixture
def next_command(broker: Valkey) -> Iterator[Callable[[], Any]]:
    """Return a function that reads the next remote-control command to the workers; None if there is none."""
    with broker.client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.psubscribe("*celery.pidbox*")
        pubsub.get_message(timeout=1)

        def read() -> Any:
            message = pubsub.get_message(timeout=0.1)
            return json.loads(base64.b64decode(json.loads(message["data"])["body"])) if message else None

        yield read


@pytest.fixture
def render(broker: Valkey, records: TaskRecords, take) -> Callable[..., Attempt]:
    """Return how to take the next image task and answer it with images, as a worker would."""
    artifacts = open_artifacts(broker.settings, broker.client)

    def render_next(*images: bytes, queue: str = "sd", partial: bool = False, **fields: Any) -> Attempt:
        attempt: Attempt = take(queue)
        for number, image in enumerate(images):
            artifacts.put(attempt.task_id, number, image, content_type(image), attempt.owner)
        reply = {"images": [{"artifact": number} for number in range(len(images))], "parameters": {}, "info": "{}"}
        body = json.dumps(reply | fields).encode()
        assert records.finish_cancelled(attempt, body) if partial else records.succeed(attempt, 200, body)
        return attempt

    return render_next


@pytest.fixture
def report(broker: Valkey) -> Callable[..., None]:
    """Return how to report a worker that serves some queues; ``lists`` is what its image engine answers."""

    def report_worker(*queues: str, lists: dict[str, Any] | None = None, **changes: Any) -> None:
        catalog = {name: json.dumps(value).encode() for name, value in (lists or {}).items()}
        fields = {
            "name": f"{queues[0]}@box",
            "engine": "xllamacpp",
            "engine_state": "ready",
            "consuming": True,
            "slots": 4,
            "busy": 0,
            "props": "{}",
            "catalog": EngineInfo(1, catalog=catalog).version,
        }
        WorkerRegistry(broker.client).report(WorkerStatus(queues=queues, **{**fields, **changes}), catalog)

    return report_worker
