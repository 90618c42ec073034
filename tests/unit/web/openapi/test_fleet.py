from __future__ import annotations

from flask import Flask

from graycat.web.openapi.fleet import operation


def test_every_route_of_workers_and_queues_is_documented(shared_app: Flask) -> None:
    endpoints = {rule.endpoint for rule in shared_app.url_map.iter_rules() if rule.endpoint.startswith("fleet.")}
    assert len(endpoints) == 5
    assert all(operation(endpoint)["responses"] for endpoint in endpoints)
    assert operation("tasks.show") == {}


def test_a_drain_takes_a_time_limit_and_nothing_else(web_with) -> None:
    body = operation("fleet.drain_worker")["requestBody"]
    assert set(body["content"]["application/json"]["schema"]["properties"]) == {"limit_s"}
    refused = web_with(admins="tests").post("/workers/nobody/drain", json={"limit": 1})
    assert str(refused.status_code) in operation("fleet.drain_worker")["responses"]
