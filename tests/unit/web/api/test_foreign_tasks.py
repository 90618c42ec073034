"""Admins see where others' tasks are, and end them; what is in them needs a scope of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from graycat.auth.minted import Grant
from graycat.broker import keys
from graycat.queue.records import TaskRecords
from graycat.web.services import services_of
from tests.support.helpers import accepted, claimed, eventually, outcome_of, sse

#: What a caller has written or got, and nobody else may read.
ASKED, GOT, NOTED = "a-secret-question", "a-secret-answer", "a-secret-note"
BODY = {"kind": "llm.completion", "input": {"prompt": ASKED}, "metadata": {"note": NOTED}}

Headers = dict[str, str]


@pytest.fixture
def login(web: FlaskClient) -> Callable[..., Headers]:
    """Return how to mint a token of some scopes; the headers that send it."""

    def mint(name: str, *scopes: str) -> Headers:
        secret, _ = services_of(web.application).authenticator.mint(Grant(name, frozenset(scopes)))
        return {"Authorization": f"Bearer {secret}"}

    return mint


@pytest.fixture
def admin(login) -> Headers:
    headers: Headers = login("boss", "admin")
    return headers


@pytest.fixture
def inspector(login) -> Headers:
    headers: Headers = login("auditor", "admin", "inspect")
    return headers


@pytest.fixture
def done(web: FlaskClient, take, records: TaskRecords) -> str:
    """Return the path of a task of the token ``tests`` that has ended."""
    path: str = web.put("/tasks/a-chosen-name", json=BODY, headers={"X-Request-ID": NOTED}).headers["Location"]
    attempt = take()
    records.publish(attempt, 1, sse(GOT))
    records.succeed(attempt, 200, json.dumps({"content": GOT}).encode())
    return path.replace("a-chosen-name", attempt.task_id)


def listed(web: FlaskClient, headers: Headers, **query: Any) -> list[str]:
    """Return the ids on all pages of a list."""
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        answer = web.get("/tasks", query_string=query | cursor, headers=headers)
        assert answer.status_code == 200, answer.text
        found += [task["id"] for task in answer.get_json()["tasks"]]
        if not answer.get_json()["next_cursor"]:
            return found
        cursor = {"cursor": answer.get_json()["next_cursor"]}


def test_an_admin_reads_how_a_task_fares_and_nothing_of_what_is_in_it(web: FlaskClient, admin, done: str) -> None:
    answer = web.get(done, headers=admin)
    view = answer.get_json()
    assert (answer.status_code, view["owner"], view["state"], view["status"]) == (200, "tests", "succeeded", 200)
    assert {"timings", "links", "submitted_ms", "worker", "kind", "queue"} <= view.keys()
    in_list = web.get("/tasks?owner=tests", headers=admin)
    for text in (answer.text, in_list.text):
        assert not [word for word in (ASKED, GOT, NOTED, "a-chosen-name") if word in text]


def test_an_inspector_reads_all_of_it(web: FlaskClient, inspector, done: str) -> None:
    view = web.get(done, headers=inspector).get_json()
    assert (view["owner"], view["result"], view["metadata"]) == ("tests", {"content": GOT}, {"note": NOTED})
    assert GOT in web.get(f"{done}/events", headers=inspector).text


def test_an_inspector_reads_what_a_task_that_waits_asks(web: FlaskClient, inspector) -> None:
    task_id = web.post("/tasks", json=BODY).get_json()["id"]
    assert web.get(f"/tasks/{task_id}", headers=inspector).get_json()["input"]["prompt"] == ASKED


@pytest.mark.parametrize("suffix", ["/events", "/images/0", "/preview"])
def test_what_a_task_has_made_is_not_an_admin_s(web: FlaskClient, admin, done: str, suffix: str) -> None:
    answer = web.get(done + suffix, headers=admin)
    assert (answer.status_code, answer.get_json()["error"]["type"]) == (403, "permission_error")
    assert "'inspect'" in answer.text


def test_for_everybody_else_there_is_no_such_task(web: FlaskClient, login, done: str) -> None:
    for headers in (login("game", "llm", "sd", "batch", "metrics"), login("curious", "llm", "inspect")):
        calls = [("GET", suffix) for suffix in ("", "/events", "/images/0", "/preview")]
        for method, suffix in [*calls, ("DELETE", ""), ("POST", "/cancel"), ("POST", "/retry")]:
            answer = web.open(done + suffix, method=method, headers=headers)
            assert (answer.status_code, answer.get_json()["error"]["type"]) == (404, "task_not_found")
        assert web.get("/tasks?owner=tests", headers=headers).status_code == 403
        assert web.get("/tasks?owner=*", headers=headers).status_code == 403


def test_nobody_s_id_is_found_by_no_admin(web: FlaskClient, admin, done: str) -> None:
    for name in ("0" * 32, "a-chosen-name", "*", "graycat:task"):
        assert web.get(f"/tasks/{name}", headers=admin).status_code == 404


@pytest.mark.parametrize(("method", "suffix"), [("DELETE", ""), ("POST", "/cancel")])
def test_an_admin_cancels_a_task_that_waits(
    web: FlaskClient, admin, records: TaskRecords, method: str, suffix: str
) -> None:
    task_id = web.post("/tasks", json=BODY).get_json()["id"]
    answer = web.open(f"/tasks/{task_id}{suffix}", method=method, headers=admin)
    assert (answer.status_code, answer.get_json()["state"], answer.get_json()["owner"]) == (200, "cancelled", "tests")
    assert records.get(task_id)["state"] == "cancelled"


def test_an_admin_cancels_the_task_of_a_call_that_waits(web: FlaskClient, admin, take, records: TaskRecords) -> None:
    call = outcome_of(lambda: web.post("/tokenize", json={"content": ASKED}))
    attempt = take("llm.quick")
    answer = outcome_of(lambda: web.delete(f"/tasks/{attempt.task_id}", headers=admin))
    eventually(lambda: records.get(attempt.task_id).get("cancel"))
    records.finish_cancelled(attempt)
    assert answer().get_json()["confirmed"] is True
    assert (call().status_code, call().get_json()["error"]["type"]) == (499, "task_cancelled")


def test_an_admin_retries_nobody_s(web: FlaskClient, inspector, take, records: TaskRecords) -> None:
    task_id = web.post("/tasks", json=BODY).get_json()["id"]
    records.finish_cancelled(take())
    assert web.post(f"/tasks/{task_id}/retry", headers=inspector).status_code == 404


def test_the_tasks_of_one_its_players_or_all_are_listed(web: FlaskClient, admin, records: TaskRecords) -> None:
    shown = accepted(records, owner="game", shown={})
    # A call that waits is on no list of its owner's.
    waiting = accepted(records, owner="game")
    players = [accepted(records, owner=f"game/{number}", shown={}) for number in range(3)]
    other = accepted(records, owner="other", shown={})
    over = accepted(records, owner="game", shown={})
    records.succeed(claimed(records, over), 200, b"{}")

    assert set(listed(web, admin, owner="game")) == {shown, waiting, over}
    assert set(listed(web, admin, owner="game/1")) == {players[1]}
    assert set(listed(web, admin, owner="game/*")) == set(players)
    assert set(listed(web, admin, owner="*")) == {shown, waiting, other, *players}
    assert listed(web, admin, owner="nobody") == listed(web, admin) == []
    assert listed(web, admin, owner="*", state="running") == []


def test_pages_follow_each_other_without_a_gap(web: FlaskClient, admin, records: TaskRecords) -> None:
    tasks = [accepted(records, owner="game", shown={} if number % 2 else None) for number in range(7)]
    for query in ({"owner": "game"}, {"owner": "*"}):
        found = listed(web, admin, limit=2, **query)
        assert sorted(found) == sorted(tasks)


def test_rubbish_among_the_unfinished_hides_no_other(web: FlaskClient, admin, records: TaskRecords, client) -> None:
    task_id = accepted(records, owner="game")
    client.zadd(keys.live_key("llm"), {b"\xff\xfe": 1, b"rubbish": 2})
    client.set(keys.record_key("rubbish"), "no record")
    assert listed(web, admin, owner="*") == [task_id]


@pytest.mark.parametrize("owner", ["", "x" * 151])
def test_an_owner_has_a_name(web: FlaskClient, admin, owner: str) -> None:
    assert web.get("/tasks", query_string={"owner": owner}, headers=admin).status_code == 400


def test_who_asks_for_its_own_needs_no_scope(web: FlaskClient, done: str) -> None:
    (task,) = web.get("/tasks?owner=tests").get_json()["tasks"]
    assert task["id"] == "a-chosen-name"
    assert "owner" not in task
