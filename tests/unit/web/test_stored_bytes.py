"""What a caller reads whose tasks hold as many bytes as they may."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from graycat.auth.limits import Limits
from graycat.auth.minted import Grant
from graycat.queue.stored import OVERHEAD_BYTES
from graycat.web.services import services_of

ASYNC = {"Prefer": "respond-async"}
TASK = {"kind": "llm.completion", "input": {"prompt": "x" * 500}}


@pytest.fixture
def web(web_with) -> FlaskClient:
    """Return a client of a server where each API token may store one task."""
    client: FlaskClient = web_with(stored_bytes_per_token=OVERHEAD_BYTES + 1000)
    return client


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tasks", TASK),
        ("/completion", {"prompt": "x" * 500}),
        ("/completion", {"prompt": "x" * 500, "stream": True}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x" * 500}]}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "x" * 500}], "max_tokens": 5}),
        ("/sdapi/v1/txt2img", {"prompt": "x" * 500}),
        ("/batches", {"name": "two", "items": ["x" * 500]}),
    ],
)
def test_each_route_says_so(web: FlaskClient, path: str, body: dict[str, object]) -> None:
    assert web.post("/tasks", json=TASK).status_code == 202
    refused = web.post(path, json=body)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
    assert "stored_bytes_exceeded" in refused.text
    assert "this API token may have 2024 bytes together, nothing was queued" in refused.text


def test_there_is_room_when_a_task_has_ended(web: FlaskClient, take, records) -> None:
    for _ in range(3):
        task_id = web.post("/tasks", json=TASK).get_json()["id"]
        records.succeed(take(), 200, b"{}")
        assert web.get(f"/tasks/{task_id}").get_json()["state"] == "succeeded"


def test_what_is_kept_for_a_retry_takes_room(web: FlaskClient) -> None:
    task_id = web.post("/tasks", json=TASK).get_json()["id"]
    web.delete(f"/tasks/{task_id}")
    assert web.post("/tasks", json=TASK).get_json()["error"]["type"] == "stored_bytes_exceeded"


def test_a_request_that_had_no_room_does_not_count(web: FlaskClient, take, records) -> None:
    grant = Grant("game", frozenset({"llm"}), Limits(rate=2))
    secret, _ = services_of(web.application).authenticator.mint(grant)
    headers = {"Authorization": f"Bearer {secret}"}
    assert web.post("/tasks", json=TASK, headers=headers).status_code == 202
    refused = [web.post("/tasks", json=TASK, headers=headers).get_json()["error"]["type"] for _ in range(3)]
    assert refused == ["stored_bytes_exceeded"] * 3
    records.succeed(take(), 200, b"{}")
    assert web.post("/tasks", json=TASK, headers=headers).status_code == 202
