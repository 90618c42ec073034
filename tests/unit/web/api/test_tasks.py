from __future__ import annotations

import threading

import pytest

from graycat.broker.keys import record_key
from graycat.errors import EngineError
from graycat.families import BY_NAME
from graycat.web.services import services_of
from tests.support.helpers import AT_ONCE_S, Stopwatch, accepted, outcome_of, started
from tests.unit.web.api.conftest import COMPLETION


def submitted(web, **body) -> str:
    response = web.post("/completion", json={"prompt": "Hi", **body}, headers={"Prefer": "respond-async"})
    address: str = response.headers["Location"]
    return address


def test_a_task_shows_its_state(web, take, records) -> None:
    address = submitted(web)
    assert web.get(address).json["state"] == "queued"
    attempt = take()
    assert web.get(address).json["state"] == "running"
    records.succeed(attempt, 200, b'{"content":"Hello"}')
    shown = web.get(address).json
    assert (shown["state"], shown["status"], shown["result"]) == ("succeeded", 200, {"content": "Hello"})
    assert shown["submitted_ms"] <= shown["started_ms"] <= shown["finished_ms"]


ERROR = {"code": 400, "type": "engine_error", "message": '{"code": 400}'}


def test_a_failed_task_shows_its_error(web, take, records) -> None:
    address = submitted(web)
    records.fail(take(), EngineError(400, b'{"error":{"code":400}}'))
    shown = web.get(address).json
    assert (shown["state"], shown["status"], shown["error"]) == ("failed", 400, ERROR)


def test_a_stream_s_answer_is_its_events(web, take, records) -> None:
    address = submitted(web, stream=True)
    attempt = take()
    records.publish(attempt, 1, [b"data: 1\n\n", b"data: 2\n\n"])
    records.succeed(attempt, 200, b"")
    assert web.get(address).json["events"] == ["data: 1\n\n", "data: 2\n\n"]


def test_a_cancelled_task_has_no_answer(web, take, records) -> None:
    address = submitted(web)
    records.finish_cancelled(take())
    shown = web.get(address).json
    assert (shown["state"], shown["status"]) == ("cancelled", 499)
    assert not {"result", "error"} & set(shown)


@pytest.mark.parametrize("owner", ["somebody else", None])
def test_another_caller_s_task_is_not_found(web, records, owner: str | None) -> None:
    task_id = started(records, owner=owner).task_id if owner else "0" * 32
    response = web.get(f"/tasks/{task_id}")
    assert (response.status_code, response.json["error"]["type"]) == (404, "task_not_found")


def test_a_task_never_shows_its_prompt_or_its_owner(web) -> None:
    shown = web.get(submitted(web)).text
    assert "Hi" not in shown
    assert "owner" not in shown


def test_a_submitted_task_is_accepted_with_its_address(web, records) -> None:
    response = web.post("/tasks", json=COMPLETION | {"metadata": {"player": 7}})
    task = response.json
    assert (response.status_code, task["state"], task["kind"]) == (202, "queued", "llm.completion")
    assert response.headers["Location"] == task["links"]["self"] == f"/tasks/{task['id']}"
    assert (response.headers["ETag"], response.headers["Retry-After"]) == ('"queued-0"', "1")
    assert task["metadata"] == {"player": 7}
    assert records.get(task["id"])["owner"] == "tests"


def test_a_batch_task_goes_to_the_batch_queue(web, submit, client) -> None:
    task_id = submit(priority="batch")
    assert (client.llen("llm"), client.llen("llm.batch")) == (0, 1)
    assert web.get(f"/tasks/{task_id}").json["priority"] == "batch"


def test_a_task_that_cannot_be_used_is_not_queued(web, client) -> None:
    response = web.post("/tasks", json={"kind": "llm.completion"})
    assert (response.status_code, response.json["error"]["type"]) == (400, "invalid_request_error")
    assert client.keys("graycat:task:*") == []


@pytest.mark.parametrize("kind", [[], ["llm.completion"], {}, {"kind": "sd.txt2img"}, None, 5, True])
def test_a_kind_that_is_no_text_is_refused(web, kind) -> None:
    response = web.post("/tasks", json={"kind": kind, "input": {}})
    assert (response.status_code, response.json["error"]["type"]) == (400, "invalid_request_error")
    assert "'kind' must be one of" in response.json["error"]["message"]


def test_a_full_queue_refuses_a_task_with_retry_after(web_with, broker) -> None:
    web = web_with(queue_cap=1)
    assert web.post("/tasks", json=COMPLETION).status_code == 202
    response = web.post("/tasks", json=COMPLETION)
    assert (response.status_code, response.json["error"]["type"]) == (503, "queue_full")
    assert response.headers["Retry-After"] == "5"


def test_the_same_key_is_the_same_task(web, client) -> None:
    responses = [web.post("/tasks", json=COMPLETION, headers={"Idempotency-Key": "k-1"}) for _ in range(3)]
    assert [response.status_code for response in responses] == [202, 200, 200]
    assert len({response.json["id"] for response in responses}) == 1
    assert client.llen("llm") == 1


def test_a_key_brings_the_answer_of_a_task_that_is_over(web, take, records) -> None:
    headers = {"Idempotency-Key": "k-1"}
    web.post("/tasks", json=COMPLETION, headers=headers)
    records.succeed(take(), 200, b'{"content":"Hello"}')
    response = web.post("/tasks", json=COMPLETION, headers=headers)
    assert (response.status_code, response.json["result"]) == (200, {"content": "Hello"})


def test_a_key_with_another_content_is_a_conflict(web, client) -> None:
    web.post("/tasks", json=COMPLETION, headers={"Idempotency-Key": "k-1"})
    other = COMPLETION | {"input": {"prompt": "Ho"}}
    response = web.post("/tasks", json=other, headers={"Idempotency-Key": "k-1"})
    assert (response.status_code, response.json["error"]["type"]) == (409, "idempotency_conflict")
    assert client.llen("llm") == 1


def test_keys_that_begin_alike_are_different_keys(web) -> None:
    keys = ["k" * 63 + "1", "k" * 63 + "2"]
    ids = {web.post("/tasks", json=COMPLETION, headers={"Idempotency-Key": key}).json["id"] for key in keys}
    assert len(ids) == 2


@pytest.mark.parametrize("key", ["", "x" * 65, "a b"])
def test_a_key_that_is_none_is_refused(web, client, key: str) -> None:
    response = web.post("/tasks", json=COMPLETION, headers={"Idempotency-Key": key})
    assert (response.status_code, client.keys("graycat:task:*")) == (400, [])


def test_clients_that_submit_at_once_with_one_key_make_one_task(web, shared_app, client) -> None:
    start = threading.Barrier(8)

    def post() -> str:
        start.wait()
        caller = shared_app.test_client()
        caller.environ_base |= web.environ_base
        task_id: str = caller.post("/tasks", json=COMPLETION, headers={"Idempotency-Key": "k"}).json["id"]
        return task_id

    ids = {wait() for wait in [outcome_of(post) for _ in range(8)]}
    assert (len(ids), client.llen("llm")) == (1, 1)


def test_a_task_may_have_a_name_that_its_owner_chose(web, take, records) -> None:
    response = web.put("/tasks/level-7.intro", json=COMPLETION)
    assert (response.status_code, response.json["id"]) == (202, "level-7.intro")
    assert response.headers["Location"] == "/tasks/level-7.intro"
    records.succeed(take(), 200, b"{}")
    assert web.get("/tasks/level-7.intro").json["state"] == "succeeded"
    assert web.put("/tasks/level-7.intro", json=COMPLETION).status_code == 200
    other = web.put("/tasks/level-7.intro", json=COMPLETION | {"priority": "batch"})
    assert (other.status_code, other.json["error"]["type"]) == (409, "idempotency_conflict")


IMAGE = {"kind": "sd.txt2img", "input": {"prompt": "a fox"}}


def test_a_name_is_one_task_s_whatever_its_kind(web, client) -> None:
    assert web.put("/tasks/portrait", json=IMAGE).status_code == 202
    assert web.get("/tasks/portrait").json["kind"] == "sd.txt2img"
    assert web.put("/tasks/portrait", json=IMAGE).status_code == 200
    for given in (web.put("/tasks/portrait", json=COMPLETION), web.put("/tasks/portrait", json=COMPLETION)):
        assert (given.status_code, given.json["error"]["type"]) == (409, "idempotency_conflict")
    assert (client.llen("sd"), client.llen("llm")) == (1, 0)
    assert web.delete("/tasks/portrait").json["state"] == "cancelled"


def test_the_id_of_a_task_shows_its_engine_family(web) -> None:
    for body, digits in ((COMPLETION, BY_NAME["llm"].id_digits), (IMAGE, BY_NAME["sd"].id_digits)):
        assert {web.post("/tasks", json=body).json["id"][0] for _ in range(20)} <= set(digits)


def test_a_name_and_a_key_do_not_meet(web) -> None:
    named = web.put("/tasks/one", json=COMPLETION)
    keyed = web.post("/tasks", json=COMPLETION, headers={"Idempotency-Key": "one"})
    assert (named.status_code, keyed.status_code) == (202, 202)


def test_the_id_of_a_forgotten_task_is_gone(web, submit, client) -> None:
    task_id = submit()
    client.delete(record_key(task_id))
    for method, suffix in (("GET", ""), ("DELETE", ""), ("POST", "/retry"), ("POST", "/cancel"), ("GET", "/events")):
        response = web.open(f"/tasks/{task_id}{suffix}", method=method)
        assert (response.status_code, response.json["error"]["type"]) == (410, "task_gone")


@pytest.mark.parametrize(
    ("method", "suffix"),
    [
        *(("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/retry")),
        *(("GET", "/events"), ("GET", "/images/0"), ("GET", "/preview")),
    ],
)
def test_nothing_can_be_done_with_another_caller_s_task(web, records, method: str, suffix: str) -> None:
    task_id = accepted(records, owner="game", shown={})
    response = web.open(f"/tasks/{task_id}{suffix}", method=method)
    assert (response.status_code, response.json["error"]["type"]) == (404, "task_not_found")
    assert records.get(task_id)["state"] == "queued"


def test_a_task_of_a_kind_of_a_newer_release_is_shown_and_not_retried(web, records) -> None:
    task_id = accepted(records, kind="llm.ponder", shown={})
    records.cancel(task_id)
    assert web.get(f"/tasks/{task_id}").json["kind"] == "llm.ponder"
    response = web.post(f"/tasks/{task_id}/retry")
    assert (response.status_code, response.json["error"]["type"]) == (409, "not_retryable")


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
def test_a_poller_with_the_current_tag_gets_304(web, submit, form: str) -> None:
    address = f"/tasks/{submit()}"
    tag = web.get(address).headers["ETag"]
    response = web.get(f"{address}?", headers={"If-None-Match": form.format(tag)})
    assert (response.status_code, response.data, response.headers["ETag"]) == (304, b"", tag)
    assert response.headers["Retry-After"] == "1"


def test_a_poller_gets_the_new_state(web, submit, take) -> None:
    address = f"/tasks/{submit()}"
    tag = web.get(address).headers["ETag"]
    take()
    response = web.get(address, headers={"If-None-Match": tag})
    assert (response.status_code, response.json["state"]) == (200, "running")


def test_a_task_that_has_ended_has_no_retry_after(web, submit, take, records) -> None:
    address = f"/tasks/{submit()}"
    records.succeed(take(), 200, b"{}")
    assert "Retry-After" not in web.get(address).headers


def test_a_long_poll_is_answered_when_the_task_ends(web, submit, take, records) -> None:
    address = f"/tasks/{submit()}"
    response = outcome_of(lambda: web.get(f"{address}?wait=10"))
    clock = Stopwatch()
    records.succeed(take(), 200, b'{"content":"Hello"}')
    assert response().json["result"] == {"content": "Hello"}
    assert clock.seconds < AT_ONCE_S


def test_a_long_poll_of_a_task_that_is_over_is_answered_at_once(web, submit, take, records) -> None:
    address = f"/tasks/{submit()}"
    records.succeed(take(), 200, b"{}")
    clock = Stopwatch()
    assert web.get(f"{address}?wait=10").json["state"] == "succeeded"
    assert clock.seconds < AT_ONCE_S


def test_a_long_poll_ends_when_its_time_is_up(web, submit, shared_app) -> None:
    task_id = submit()
    clock = Stopwatch()
    response = web.get(f"/tasks/{task_id}?wait=0.1", headers={"If-None-Match": '"queued-0"'})
    assert (response.status_code, response.headers["ETag"]) == (304, '"queued-0"')
    assert 0.09 < clock.seconds < AT_ONCE_S
    assert task_id not in services_of(shared_app).gateway.hub._subscriptions_of(task_id)


@pytest.mark.parametrize("wait", ["", "soon", "-1", "301", "nan", "inf"])
def test_a_wait_that_cannot_be_is_refused(web, submit, wait: str) -> None:
    assert web.get(f"/tasks/{submit()}?wait={wait}").status_code == 400
    assert web.post("/tasks", json=COMPLETION, headers={"Prefer": f"wait={wait}"}).status_code == 400


def test_a_submit_that_prefers_to_wait_brings_the_answer(web, take, records) -> None:
    response = outcome_of(lambda: web.post("/tasks", json=COMPLETION, headers={"Prefer": "wait=10"}))
    records.succeed(take(), 200, b'{"content":"Hello"}')
    assert (response().status_code, response().json["result"]) == (200, {"content": "Hello"})


def test_a_submit_that_waited_long_enough_is_accepted(web) -> None:
    response = web.post("/tasks", json=COMPLETION, headers={"Prefer": "wait=0.05"})
    assert (response.status_code, response.json["state"]) == (202, "queued")


def test_without_a_broker_a_task_is_not_accepted(web_without_broker) -> None:
    for response in (web_without_broker.post("/tasks", json=COMPLETION), web_without_broker.get("/tasks/a")):
        assert (response.status_code, response.json["error"]["type"]) == (503, "broker_unavailable")
