"""What another program has written into the broker turns no answer into an internal error."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from graycat.broker import keys
from graycat.status import snapshot
from graycat.web.services import services_of
from tests.support.broker import BrokerClient

ROUTES = ("/ready", "/tasks", "/v1/models", "/metrics", "/status", "/props")
SHARED_KEYS = (
    keys.fleet_key("llm"),
    keys.turns_key("llm"),
    keys.DELIVERIES,
    keys.PAUSED_QUEUES,
    keys.failures_key("llm"),
    keys.live_key("llm"),
    keys.PROCESSES,
    keys.quarantine_key("home"),
)
REPORTS = (
    "{half",
    "7",
    "[]",
    "null",
    "{}",
    '{"name": 7}',
    '{"queues": 7}',
    '{"queues": [7]}',
    '{"queues": ["llm"], "consuming": true, "engine_state": "ready", "engine": 7}',
    '{"queues": ["llm"], "consuming": true, "engine_state": "ready", "gpu_state": {}}',
    '{"queues": ["llm"], "consuming": true, "engine_state": "ready", "retry_in_s": "soon"}',
    "\\ud800",
)


@pytest.fixture
def fresh(web: FlaskClient, report: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """Return a client of an application with a worker that serves, whose snapshots are new each time."""
    monkeypatch.setattr(snapshot, "MAX_AGE_S", 0.0)
    report("llm", models=["one"], model_list=json.dumps({"data": [{"id": "one"}, 7]}))
    report("llm.quick")
    report("sd")
    return web


def assert_served(web: FlaskClient, *expected: int) -> None:
    for route in ROUTES:
        status = web.get(route, headers={"Authorization": operators_token(web)}).status_code
        if route in ("/metrics", "/status"):
            assert status == 200, route
        else:
            status = web.get(route).status_code
            assert status in (expected or (200,)), route


def body_of(web: FlaskClient, route: str) -> dict[str, Any]:
    """Return what a route answers."""
    body = web.get(route, headers={"Authorization": operators_token(web)} if route == "/status" else {}).json
    assert isinstance(body, dict)
    return body


def operators_token(web: FlaskClient) -> str:
    return f"Bearer {services_of(web.application).metrics_token}"


def test_all_is_well_without_rubbish(fresh: FlaskClient) -> None:
    assert_served(fresh)
    assert not [note for note in body_of(fresh, "/ready")["notes"] if "readable" in note]


@pytest.mark.parametrize("key", SHARED_KEYS)
@pytest.mark.parametrize("kind", ["string", "hash"])
def test_a_key_of_another_type(fresh: FlaskClient, client: BrokerClient, key: str, kind: str) -> None:
    client.delete(key)
    if kind == "string":
        client.set(key, "rubbish")
    else:
        client.hset(key, "rubbish", "rubbish")
    assert_served(fresh, 200, 503 if key == keys.fleet_key("llm") else 200)
    # The fields of a hash of processes are looked at one by one, and no snapshot reads the unfinished tasks.
    if key != keys.live_key("llm") and (key, kind) != (keys.PROCESSES, "hash"):
        assert any(key in note for note in body_of(fresh, "/ready")["notes"])
        status = body_of(fresh, "/status")
        assert status["unreadable"] == [key]


@pytest.mark.parametrize("report_text", REPORTS)
def test_a_report_of_no_worker_hides_no_other(fresh: FlaskClient, client: BrokerClient, report_text: str) -> None:
    client.zadd(keys.fleet_key("llm"), {"llm@bad": 1e12})
    client.set(keys.worker_key("llm@bad"), report_text)
    assert_served(fresh)
    assert "llm@box" in [worker["name"] for worker in body_of(fresh, "/ready")["workers"]]


def test_a_report_of_another_type_hides_no_other(fresh: FlaskClient, client: BrokerClient) -> None:
    client.zadd(keys.fleet_key("llm"), {"llm@bad": time.time(), b"\xff\xfe": 1e12})
    client.hset(keys.worker_key("llm@bad"), "a", "b")
    assert_served(fresh)
    assert any("graycat:worker:llm@bad" in note for note in body_of(fresh, "/ready")["notes"])


@pytest.mark.parametrize("queue", ["llm", "llm.batch", "control"])
def test_a_queue_of_another_type_hides_no_other(fresh: FlaskClient, client: BrokerClient, queue: str) -> None:
    fresh.post("/tasks", json={"kind": "llm.tokenize", "input": {"content": "Hi"}})
    client.delete(queue)
    client.set(queue, "no list")
    assert_served(fresh)
    status = body_of(fresh, "/status")
    assert status["unreadable"] == [queue]
    assert {row["name"]: row["depth"] for row in status["queues"]}["llm.quick"] == 1


def test_a_record_of_another_type_among_the_unfinished(fresh: FlaskClient, client: BrokerClient) -> None:
    task_id = fresh.post("/tasks", json={"kind": "llm.completion", "input": {"prompt": "Hi"}}).get_json()["id"]
    for name in (keys.record_key("0bad"), keys.record_key("\udcff".encode(errors="surrogateescape").hex())):
        client.set(name, "no hash")
        client.zadd(keys.live_key("llm"), {name.rpartition(":")[2]: 1})
    client.zadd(keys.live_key("llm"), {b"\xff\xfe": 1})
    client.zadd(keys.owned_key("llm", "tests"), {"0bad": 1})
    client.zadd(keys.listed_key("tests"), {"0bad": 1e12})
    client.hset(keys.record_key("0half"), "kind", "llm.completion")
    client.zadd(keys.listed_key("tests"), {"0half": 1e12})
    client.xadd(keys.failures_key("llm"), {"task": "incomplete"})
    assert_served(fresh)
    assert [row["id"] for row in body_of(fresh, "/tasks")["tasks"]] == [task_id]
    assert fresh.get("/sdapi/v1/progress").status_code == 200


@pytest.mark.parametrize("model_list", ["{half", "7", "[7]", '{"data": 7}', '{"data": [], "models": {}}'])
def test_a_list_of_models_that_is_none_hides_no_other(
    fresh: FlaskClient, report: Callable[..., None], model_list: str
) -> None:
    report("llm", name="a@box", models=["odd"], model_list=model_list)
    report("llm", name="b@box", models=["two"], model_list='{"data": [{"id": []}, {"id": "two"}]}')
    names = [entry["id"] for entry in body_of(fresh, "/v1/models")["data"]]
    assert {"one", "two"} <= {name for name in names if isinstance(name, str)}
