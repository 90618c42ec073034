from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from graycat.errors import EngineError
from graycat.queue.models import STATES
from graycat.web.api.task_requests import FIELDS
from graycat.web.openapi.tasks import operation, schemas
from tests.support.helpers import accepted, claimed

ENDPOINTS = ["submit", "put", "show", "listing", "cancel", "cancel_post", "retry"]


def names(endpoint: str) -> set[str]:
    return {parameter["name"] for parameter in operation(endpoint).get("parameters", ())}


def statuses(endpoint: str) -> set[str]:
    return set(operation(endpoint)["responses"])


def test_every_task_route_is_documented(shared_app: Flask) -> None:
    endpoints = {rule.endpoint for rule in shared_app.url_map.iter_rules()}
    documented = {name for name in endpoints if name.startswith(("tasks.", "events."))}
    assert documented == {f"tasks.{name}" for name in ENDPOINTS} | {"events.events"}
    assert all(operation(endpoint) for endpoint in documented)
    assert operation("health.live") == {}


def test_a_submit_takes_every_field_that_it_knows() -> None:
    for endpoint in ("tasks.submit", "tasks.put"):
        schema = operation(endpoint)["requestBody"]["content"]["application/json"]["schema"]
        assert set(schema["properties"]) == FIELDS
        assert (schema["required"], schema["additionalProperties"]) == (["kind", "input"], False)


@pytest.mark.parametrize(
    ("endpoint", "parameters"),
    [
        ("tasks.submit", {"Idempotency-Key", "Prefer"}),
        ("tasks.put", {"Prefer"}),
        ("tasks.show", {"wait", "If-None-Match"}),
        ("tasks.listing", {"state", "kind", "limit", "cursor", "owner"}),
        ("tasks.cancel", set()),
        ("tasks.retry", {"Idempotency-Key"}),
        ("events.events", {"format", "Last-Event-ID", "after"}),
    ],
)
def test_parameters_are_documented(endpoint: str, parameters: set[str]) -> None:
    assert names(endpoint) == parameters


@pytest.mark.parametrize(
    ("endpoint", "own"),
    [
        ("tasks.submit", {"200", "202", "400", "409", "413"}),
        ("tasks.put", {"200", "202", "400", "409", "413"}),
        ("tasks.show", {"200", "304", "400", "410"}),
        ("tasks.listing", {"200", "400"}),
        ("tasks.cancel", {"200", "410"}),
        ("tasks.cancel_post", {"200", "410"}),
        ("tasks.retry", {"200", "202", "400", "409", "410"}),
        ("events.events", {"200", "204", "400", "410"}),
    ],
)
def test_every_status_is_documented(endpoint: str, own: set[str]) -> None:
    assert statuses(endpoint) == own | {"401", "403", "404", "405", "429", "500", "503"}


def test_every_field_of_a_task_is_in_its_schema(web, records, report) -> None:
    report("llm", name="llm@here")
    known: dict[str, Any] = schemas()["Task"]
    body = {"kind": "llm.completion", "input": {"prompt": "Hi"}, "metadata": {"a": 1}}
    seen = [web.post("/tasks", json=body).json]
    attempt = claimed(records, seen[0]["id"])
    records.publish(attempt, 1, [b"a"])
    seen.append(web.get(f"/tasks/{attempt.task_id}").json)
    records.fail(attempt, EngineError(500, b"{}"))
    seen += [web.get(f"/tasks/{attempt.task_id}").json, web.post(f"/tasks/{attempt.task_id}/retry").json]
    seen += [web.delete(f"/tasks/{accepted(records)}").json]
    for task in seen:
        assert set(task) <= set(known["properties"])
        assert set(known["required"]) <= set(task)
        assert task["state"] in STATES


def test_the_example_of_a_task_has_the_fields_of_one(web) -> None:
    task = schemas()["Task"]
    (example,) = task["examples"]
    assert set(task["required"]) <= set(example) <= set(task["properties"])
    real = web.post("/tasks", json={"kind": "llm.completion", "input": {"prompt": "Hi"}}).json
    assert set(example) - set(real) == {"started_ms", "finished_ms", "status", "result"}
    assert set(example["links"]) <= set(real["links"])
