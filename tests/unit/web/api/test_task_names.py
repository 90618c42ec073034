"""A name or a key is one task's, and the task is found under it: whoever comes at once, and whatever the name is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from graycat.auth.limits import Limits
from graycat.auth.minted import Grant
from graycat.broker.keys import rate_key
from graycat.web.services import services_of
from tests.support.broker import BrokerClient
from tests.support.helpers import outcome_of
from tests.unit.web.api.conftest import COMPLETION

TOKENIZE: dict[str, Any] = {"kind": "llm.tokenize", "input": {"content": "Hi"}}
IMAGE: dict[str, Any] = {"kind": "sd.txt2img", "input": {"prompt": "a fox"}}
#: Enough that two steps, a look and a write, would come between each other.
ROUNDS = 60


@pytest.mark.parametrize("way", ["key", "name"])
def test_of_two_families_at_once_one_task_is_made(web, shared_app: Flask, client: BrokerClient, way: str) -> None:
    start = threading.Barrier(2)

    def sender(body: dict[str, Any]) -> Callable[[], list[int]]:
        caller = shared_app.test_client()
        caller.environ_base |= web.environ_base

        def send() -> list[int]:
            statuses = []
            for number in range(ROUNDS):
                start.wait()
                if way == "key":
                    answer = caller.post("/tasks", json=body, headers={"Idempotency-Key": f"k-{number}"})
                else:
                    answer = caller.put(f"/tasks/n-{number}", json=body)
                statuses.append(answer.status_code)
            return statuses

        return send

    texts, images = [outcome_of(sender(body)) for body in (TOKENIZE, IMAGE)]
    assert {tuple(sorted(pair)) for pair in zip(texts(), images(), strict=True)} == {(202, 409)}
    assert len(client.keys("graycat:task:*")) == ROUNDS
    # Turns let one image of an owner into the queue at a time.
    assert client.llen("llm.quick") == texts().count(202)


def test_a_conflict_is_not_counted_against_the_rate(web, client: BrokerClient) -> None:
    grant = Grant("game", frozenset({"llm", "sd"}), Limits(rate=5))
    secret, _ = services_of(web.application).authenticator.mint(grant)
    headers = {"Authorization": f"Bearer {secret}", "Idempotency-Key": "k"}
    statuses = [web.post("/tasks", json=body, headers=headers).status_code for body in (TOKENIZE, IMAGE, IMAGE)]
    assert (statuses, client.zcard(rate_key("game"))) == ([202, 409, 409], 1)


def test_the_id_of_an_own_task_names_no_other(web, client: BrokerClient) -> None:
    for body, other in ((COMPLETION, TOKENIZE), (COMPLETION, IMAGE), (IMAGE, COMPLETION)):
        task_id = web.post("/tasks", json=body).json["id"]
        before = sorted(client.keys("*"))
        refused = web.put(f"/tasks/{task_id}", json=other)
        assert (refused.status_code, refused.json["error"]["type"]) == (409, "idempotency_conflict")
        known = web.put(f"/tasks/{task_id}", json=body)
        assert (known.status_code, known.json["id"], known.json["kind"]) == (200, task_id, body["kind"])
        assert sorted(client.keys("*")) == before


def test_the_id_of_a_task_of_an_engine_s_own_route_names_no_other(web, client: BrokerClient) -> None:
    task_id = web.post("/completion", json={"prompt": "Hi"}, headers={"Prefer": "respond-async"}).json["id"]
    assert web.put(f"/tasks/{task_id}", json=COMPLETION).status_code == 409
    assert len(client.keys("graycat:task:*")) == 1


def test_the_id_of_another_caller_s_task_is_a_name_like_any(web, records) -> None:
    grant = Grant("game", frozenset({"llm"}))
    secret, _ = services_of(web.application).authenticator.mint(grant)
    task_id = web.post("/tasks", json=COMPLETION).json["id"]
    headers = {"Authorization": f"Bearer {secret}"}
    assert web.put(f"/tasks/{task_id}", json=TOKENIZE, headers=headers).status_code == 202
    assert web.get(f"/tasks/{task_id}", headers=headers).json["kind"] == "llm.tokenize"
    assert web.get(f"/tasks/{task_id}").json["kind"] == "llm.completion"


@pytest.mark.parametrize("way", ["none", "key", "name"])
def test_a_new_task_that_has_ended_already_is_accepted(web, records, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    gateway = services_of(web.application).gateway
    enqueue = gateway.enqueue

    def enqueue_and_end(*arguments: Any) -> tuple[str, bool]:
        task_id, is_new = enqueue(*arguments)
        records.cancel(task_id)
        return task_id, is_new

    monkeypatch.setattr(gateway, "enqueue", enqueue_and_end)

    def send(**headers: str) -> Any:
        if way == "name":
            return web.put("/tasks/mine", json=COMPLETION, headers=headers)
        if way == "key":
            headers["Idempotency-Key"] = "k"
        return web.post("/tasks", json=COMPLETION, headers=headers)

    accepted = send()
    assert (accepted.status_code, accepted.json["state"]) == (202, "cancelled")
    if way != "none":
        assert send().status_code == 200
    # Who waits for it is told by 200 that it has ended.
    assert send(Prefer="wait=10").status_code == 200
