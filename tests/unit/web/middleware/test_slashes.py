from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

PATHS = ("//v1/chat/completions", "/v1//chat/completions", "/v1/chat//completions", "///v1///chat///completions")


def at(path: str) -> dict[str, Any]:
    """Return a path for Flask's test client as a server would give it: the client reads a host out of two slashes."""
    return {"environ_overrides": {"PATH_INFO": path}}


@pytest.mark.parametrize("path", PATHS)
def test_slashes_too_many_reach_the_route_at_once(web: FlaskClient, path: str) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    answer = web.post(**at(path), json=body, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize("path", ["//nowhere", "/v1//nowhere"])
def test_a_route_that_is_not_there_is_no_redirection_either(web: FlaskClient, path: str) -> None:
    answer = web.get(**at(path))
    assert (answer.status_code, answer.get_json()["error"]["type"]) == (404, "not_found_error")


def test_a_poll_that_is_answered_before_flask_finds_its_task_too(web: FlaskClient) -> None:
    task_id = web.post("/tasks", json={"kind": "llm.completion", "input": {"prompt": "Hi"}}).get_json()["id"]
    tag = web.get(f"/tasks/{task_id}").headers["ETag"]
    answer = web.get(**at(f"//tasks//{task_id}"), headers={"If-None-Match": tag})
    assert answer.status_code == 304, answer.text
