from __future__ import annotations

from dataclasses import fields

from flask import Flask

from graycat.auth.limits import Limits
from graycat.web.openapi.tokens import operation


def test_every_route_of_api_tokens_is_documented(shared_app: Flask) -> None:
    endpoints = {rule.endpoint for rule in shared_app.url_map.iter_rules() if rule.endpoint.startswith("tokens.")}
    assert len(endpoints) == 6
    assert all(operation(endpoint)["responses"] for endpoint in endpoints)
    assert operation("tasks.show") == {}


def test_the_statuses_are_those_that_the_routes_answer(web_with) -> None:
    web = web_with(admins="tests")
    minted = web.post("/tokens", json={"name": "game"})
    assert str(minted.status_code) in operation("tokens.mint")["responses"]
    assert set(minted.json) <= set(web.get("/openapi.json").json["components"]["schemas"]["NewApiToken"]["properties"])
    answers = {
        "tokens.rotate": web.post("/tokens/game/rotate", json={"overlap_s": 0}),
        "tokens.mint_player": web.post("/tokens/player", json={"player": "ann"}),
        "tokens.revoke": web.delete("/tokens/game"),
    }
    for endpoint, answer in answers.items():
        assert str(answer.status_code) in operation(endpoint)["responses"], endpoint
        assert answer.status_code < 300


def test_the_limits_are_those_of_a_token() -> None:
    schema = operation("tokens.mint")["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]["limits"]["properties"]) == {field.name for field in fields(Limits)}
