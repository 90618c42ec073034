"""A key over which another program has written costs one request, and none after it."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from graycat.broker import keys
from graycat.queue.key_types import owner_types, queue_types
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey

TASK = {"kind": "llm.completion", "input": {"prompt": "Hi"}}
#: Only the tokens of players have these, and only those with limits the other.
UNUSED = {keys.players_key("llm", "tests"), keys.rate_key("tests"), keys.owner_batches_key("tests")}
KEYS = {
    key: wanted
    for key, wanted in owner_types("tests").items()
    if key not in UNUSED and "\0" not in key and ".sd" not in key
}
KEYS |= {keys.turn_key("llm", "tests"): "string", keys.parked_key("llm", "tests"): "list", keys.live_key("llm"): "zset"}
KEYS |= queue_types("llm")


def write_over(client: BrokerClient, key: str) -> None:
    client.delete(key)
    if KEYS[key] == "string":
        client.hset(key, "another", "program's")
    else:
        client.set(key, "another program's")


@pytest.mark.parametrize("key", KEYS)
def test_a_task_is_refused_once(web: FlaskClient, client: BrokerClient, key: str) -> None:
    write_over(client, key)
    refused = web.post("/tasks", json=TASK)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
    assert refused.get_json()["error"]["type"] == "broker_unavailable"
    assert client.keys("graycat:task:*") == []
    assert client.exists(keys.wrong_type_key(key))
    task_id = web.post("/tasks", json=TASK).get_json()["id"]
    assert [task["id"] for task in web.get("/tasks").get_json()["tasks"]] == [task_id]


def test_a_list_is_refused_once(web: FlaskClient, client: BrokerClient) -> None:
    client.set(keys.listed_key("tests"), "another program's")
    assert [web.get("/tasks").status_code for _ in range(2)] == [503, 200]


def test_a_web_process_that_may_move_nothing_still_says_so(web: FlaskClient, client: BrokerClient, monkeypatch) -> None:
    monkeypatch.setattr("graycat.web.errors.may_move", lambda _: False)
    client.set(keys.listed_key("tests"), "another program's")
    assert [web.get("/tasks").status_code for _ in range(2)] == [503, 503]
    client.delete(keys.listed_key("tests"))
    assert web.get("/tasks").status_code == 200


def test_another_error_reply_is_unexpected(web: FlaskClient, broker: Valkey, monkeypatch) -> None:
    broker.client.hset(keys.record_key("x"), "state", "queued")
    monkeypatch.setattr("graycat.web.errors.is_wrong_type", lambda _: False)
    broker.client.set(keys.listed_key("tests"), "another program's")
    assert web.get("/tasks").status_code == 500
