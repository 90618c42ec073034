"""Cancelling a task, and trying one again."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest

from graycat.auth.errors import TokenNotFound
from graycat.auth.limits import Limits
from graycat.auth.minted import Grant
from graycat.broker.keys import record_key
from graycat.errors import EngineError
from graycat.web.api import tasks
from graycat.web.services import services_of
from tests.support.helpers import accepted, claimed, eventually, outcome_of


def test_a_waiting_task_is_cancelled_at_once_and_however_often(web, submit, records) -> None:
    address = f"/tasks/{submit()}"
    for _ in range(3):
        response = web.delete(address)
        assert (response.status_code, response.json["state"], response.json["confirmed"]) == (200, "cancelled", True)
    assert web.post(f"{address}/cancel").json["confirmed"] is True


def test_the_cancel_of_a_running_task_waits_for_its_engine(web, submit, take, records) -> None:
    address = f"/tasks/{submit()}"
    attempt = take()
    response = outcome_of(lambda: web.delete(address))
    eventually(lambda: records.get(attempt.task_id).get("cancel"))
    records.finish_cancelled(attempt)
    assert (response().json["state"], response().json["confirmed"]) == ("cancelled", True)


def test_a_cancel_that_is_not_confirmed_in_time_is_marked_so(web, submit, take, monkeypatch) -> None:
    monkeypatch.setattr(tasks, "CANCEL_TIMEOUT_S", 0.05)
    address = f"/tasks/{submit()}"
    take()
    response = web.delete(address)
    assert (response.status_code, response.json["state"], response.json["confirmed"]) == (200, "running", False)


def test_cancelling_a_task_that_has_ended_changes_nothing(web, submit, take, records) -> None:
    address = f"/tasks/{submit()}"
    records.succeed(take(), 200, b"{}")
    assert web.delete(address).json["state"] == "succeeded"


def test_a_task_that_went_wrong_can_be_tried_again(web, submit, take, records) -> None:
    first = submit(metadata={"a": 1}, exec_timeout_s=7, priority="batch")
    records.fail(take("llm.batch"), EngineError(500, b"{}"))
    response = web.post(f"/tasks/{first}/retry")
    again = response.json
    assert (response.status_code, again["state"], again["retry_of"]) == (202, "queued", first)
    assert (again["metadata"], again["priority"]) == ({"a": 1}, "batch")
    attempt = take("llm.batch")
    assert (attempt.task_id, attempt.exec_timeout_s) == (again["id"], 7.0)
    assert b'"Hi"' in attempt.body
    assert web.get(f"/tasks/{first}").json["state"] == "failed"


def test_a_retry_with_a_key_is_one_retry(web, submit, take, records, client) -> None:
    address = f"/tasks/{submit()}"
    records.finish_cancelled(take())
    responses = [web.post(f"{address}/retry", headers={"Idempotency-Key": "again"}) for _ in range(2)]
    assert responses[0].json["id"] == responses[1].json["id"]
    assert client.llen("llm") == 1


@pytest.mark.parametrize("state", ["queued", "running", "succeeded"])
def test_a_task_that_did_not_go_wrong_is_not_tried_again(web, submit, take, records, state: str) -> None:
    task_id = submit()
    if state != "queued":
        attempt = take()
    if state == "succeeded":
        records.succeed(attempt, 200, b"{}")
    response = web.post(f"/tasks/{task_id}/retry")
    assert (response.status_code, response.json["error"]["type"]) == (409, "not_retryable")


def test_a_task_without_a_stored_body_is_not_retried(web, records) -> None:
    task_id = accepted(records)
    records.finish_cancelled(claimed(records, task_id))
    assert web.post(f"/tasks/{task_id}/retry").json["error"]["type"] == "not_retryable"


def test_a_retry_is_checked_against_the_limits_of_today(web, web_with, submit, take, records, client) -> None:
    task_id = submit(input={"prompt": "Hi", "stop": ["a", "b", "c"]})
    records.finish_cancelled(take())
    keys = set(client.keys())
    refused = web_with(max_words=2).post(f"/tasks/{task_id}/retry")
    assert (refused.status_code, refused.json["error"]["type"]) == (400, "too_complex")
    assert "stop has 3 entries; this server takes 2 (GRAYCAT_MAX_WORDS)" in refused.json["error"]["message"]
    assert set(client.keys()) == keys
    assert web.post(f"/tasks/{task_id}/retry").status_code == 202


def minted(web, name: str, **limits: int) -> dict[str, str]:
    """Return the headers of a new API token of a name, in place of the one that has it."""
    tokens = services_of(web.application).authenticator
    with suppress(TokenNotFound):
        tokens.minted.revoke(name)
    secret, _ = tokens.mint(Grant(name, limits=Limits(**limits)))
    return {"Authorization": f"Bearer {secret}"}


def test_a_retry_is_checked_against_the_api_token_s_limits_of_today(web, take, records, client) -> None:
    body = {"kind": "llm.completion", "input": {"prompt": "Hi", "n_predict": 500}}
    before = minted(web, "game", max_tokens=500)
    address = web.post("/tasks", json=body, headers=before).headers["Location"]
    records.finish_cancelled(take())
    refused = web.post(f"{address}/retry", headers=minted(web, "game", max_tokens=100))
    assert (refused.status_code, refused.json["error"]["type"]) == (429, "limit_exceeded")
    assert client.llen("llm") == 0
    assert web.post(f"{address}/retry", headers=minted(web, "game", max_tokens=500)).status_code == 202


def test_a_retry_without_a_length_gets_the_api_token_s_own(web, take, records) -> None:
    body = {"kind": "llm.completion", "input": {"prompt": "Hi"}}
    address = web.post("/tasks", json=body, headers=minted(web, "game")).headers["Location"]
    records.finish_cancelled(take())
    assert web.post(f"{address}/retry", headers=minted(web, "game", max_tokens=100)).status_code == 202
    assert json.loads(take().body)["n_predict"] == 100


def test_a_retry_of_images_is_checked_against_the_api_token_s_pixels(web, take, records) -> None:
    body = {"kind": "sd.txt2img", "input": {"prompt": "a cat", "width": 256, "height": 256}}
    address = web.post("/tasks", json=body, headers=minted(web, "game")).headers["Location"]
    first = take("sd")
    records.finish_cancelled(first)
    refused = web.post(f"{address}/retry", headers=minted(web, "game", max_pixels=1000))
    assert (refused.status_code, refused.json["error"]["type"]) == (429, "limit_exceeded")
    assert web.post(f"{address}/retry", headers=minted(web, "game")).status_code == 202
    assert take("sd").body == first.body


def test_a_retry_of_what_only_admins_may_do_is_theirs(web_with, take, records) -> None:
    admin = web_with(admins="tests")
    path = admin.post("/lora-adapters", json=[], headers={"Prefer": "respond-async"}).headers["Location"]
    records.finish_cancelled(take("llm.quick"))
    assert web_with().post(f"{path}/retry").status_code == 403


def test_a_large_input_goes_with_its_task_and_is_not_retried(web_with, client) -> None:
    web = web_with(retry_body_bytes=100)
    body = {"kind": "llm.completion", "input": {"prompt": "Hi", "unknown": "x" * 100}}
    task_id = web.post("/tasks", json=body).json["id"]
    assert client.hexists(record_key(task_id), "body")
    assert web.delete(f"/tasks/{task_id}").json["state"] == "cancelled"
    assert not client.hexists(record_key(task_id), "body")
    refused = web.post(f"/tasks/{task_id}/retry")
    assert (refused.status_code, refused.json["error"]["type"]) == (409, "not_retryable")
    assert "submit it anew" in refused.json["error"]["message"]


def test_what_has_succeeded_keeps_no_input(submit, take, records, client) -> None:
    task_id = submit()
    records.succeed(take(), 200, b"{}")
    assert not client.hexists(record_key(task_id), "body")


def test_a_flood_of_large_cancelled_tasks_leaves_nothing_behind(web, client) -> None:
    before = client.info("memory")["used_memory"]
    body = {"kind": "llm.completion", "input": {"prompt": "Hi", "unknown": "x" * 3_900_000}}
    for _ in range(10):
        task_id = web.post("/tasks", json=body).json["id"]
        assert web.delete(f"/tasks/{task_id}").json["state"] == "cancelled"
    # A client's buffer may still hold the last one.
    eventually(lambda: client.info("memory")["used_memory"] - before < 2 * 3_900_000)
