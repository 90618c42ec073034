from __future__ import annotations

import sys
from itertools import islice

import pytest

from graycat.broker.keys import usage_key
from graycat.client import Client, InvalidArgument, UnexpectedReply
from graycat.client.errors import IdempotencyConflict, RequestError, TaskNotFound, Unauthorized
from tests.support.helpers import run, started
from tests.support.scripted import respond_in_turn, respond_with
from tests.support.servers import http_server

INPUT = {"prompt": "Hi", "n_predict": 4}

#: Modules that importing the client must not load.
HEAVY = ("flask", "celery", "gevent", "kombu", "redis", "graycat.settings", "graycat.web")


def test_importing_the_client_loads_no_server() -> None:
    script = f"import sys, graycat.client; print([name for name in {HEAVY} if name in sys.modules])"
    result = run([sys.executable, "-W", "error", "-c", script])
    assert (result.returncode, result.stdout, result.stderr) == (0, "[]\n", "")


def test_a_task_is_submitted_with_all_its_options(client, records) -> None:
    options = {"priority": "batch", "metadata": {"run": 7}, "queue_ttl_s": 60, "exec_timeout_s": 30}
    task = client.submit("llm.completion", INPUT, **options)
    assert (task.state, task.done, task.view.priority, task.view.metadata) == ("queued", False, "batch", {"run": 7})
    record = records.get(task.id)
    assert (record["queue"], record["queue_ttl_ms"], record["exec_timeout_ms"]) == ("llm.batch", "60000", "30000")
    assert "llm.completion queued" in repr(task)


def test_a_submit_whose_answer_is_lost_makes_one_task(client, live, pauses) -> None:
    live.cuts = [0, 0]
    task = client.submit("llm.completion", INPUT)
    assert len(live.asked("POST", "/tasks")) == 3
    assert len(pauses) == 2
    assert [listed.id for listed in client.tasks()] == [task.id]


def test_each_submit_without_a_key_is_a_task_of_its_own(client) -> None:
    assert client.submit("llm.completion", INPUT).id != client.submit("llm.completion", INPUT).id


def test_the_same_key_is_the_same_task(client) -> None:
    first = client.submit("llm.completion", INPUT, idempotency_key="night-1")
    assert client.submit("llm.completion", INPUT, idempotency_key="night-1").id == first.id
    with pytest.raises(IdempotencyConflict):
        client.submit("llm.completion", {"prompt": "Other"}, idempotency_key="night-1")


def test_a_caller_may_choose_a_task_s_id(client, live) -> None:
    live.cuts = [0]
    task = client.submit("llm.completion", INPUT, id="story-1")
    assert task.id == "story-1"
    assert client.task("story-1").view.submitted_ms == task.view.submitted_ms
    assert len(list(client.tasks())) == 1


@pytest.mark.parametrize(
    ("body", "options"),
    [
        (INPUT, {"id": "a", "idempotency_key": "b"}),
        (INPUT, {"id": "../other"}),
        (INPUT, {"id": ".."}),
        ({"prompt": "Hi", "temperature": float("nan")}, {}),
        ({"prompt": b"Hi"}, {}),
    ],
    ids=["two names", "path", "dots", "nan", "bytes"],
)
def test_an_invalid_task_is_not_sent(client, live, body, options) -> None:
    with pytest.raises(InvalidArgument):
        client.submit("llm.completion", body, **options)
    assert live.requests == []


def test_the_server_s_refusal_is_raised(client) -> None:
    with pytest.raises(RequestError, match="'kind' must be one of"):
        client.submit("llm.nonsense", INPUT)
    with pytest.raises(TaskNotFound):
        client.task("0" * 32)


def test_a_submit_without_an_api_token_is_refused(live) -> None:
    with Client(live.url) as client, pytest.raises(Unauthorized):
        client.submit("llm.completion", INPUT)


def test_the_list_goes_over_its_pages_newest_first(client, live) -> None:
    ids = [client.submit("llm.completion", INPUT, id=f"t-{number}").id for number in range(5)]
    assert sorted(task.id for task in client.tasks(page=2)) == ids
    assert len(live.asked("GET", "/tasks")) == 3
    live.forget()
    assert len(list(islice(client.tasks(page=2), 2))) == 2
    assert len(live.asked("GET", "/tasks")) == 1


def test_the_list_may_be_of_some_states_or_kinds(client, take) -> None:
    running = client.submit("llm.completion", INPUT).id
    take()
    queued = client.submit("llm.tokenize", {"content": "Hi"}).id
    assert [task.id for task in client.tasks(state="running")] == [running]
    assert [task.id for task in client.tasks(kind="llm.tokenize")] == [queued]
    assert [task.id for task in client.tasks(state=["queued"], kind=("llm.completion",))] == []


def test_another_token_s_tasks_are_not_listed(client, records) -> None:
    started(records, owner="somebody else", shown={})
    assert list(client.tasks()) == []


def test_an_empty_page_is_not_the_end_of_the_list() -> None:
    task = {"id": "a1", "kind": "llm.completion", "state": "failed"}
    pages = {
        "GET /tasks?limit=100": respond_in_turn(respond_with(200, {"tasks": [], "next_cursor": "9-b"})),
        "GET /tasks?limit=100&cursor=9-b": respond_in_turn(respond_with(200, {"tasks": [task], "next_cursor": None})),
    }
    with http_server(pages) as server, Client(server.url) as client:
        assert [found.id for found in client.tasks()] == ["a1"]


def test_an_answer_of_another_server_is_unexpected() -> None:
    with (
        http_server({"GET /tasks?limit=100": respond_with(200, {"fine": True})}) as server,
        Client(server.url) as client,
    ):
        with pytest.raises(UnexpectedReply):
            list(client.tasks())
        assert client.url == server.url


def test_the_usage_is_read(client, broker) -> None:
    broker.client.hset(usage_key("2026-11-01"), "tests llm requests", 4)
    shown = client.usage("2026-11-01", "2026-11-02")
    assert [(row["day"], row["requests"]) for row in shown["rows"]] == [("2026-11-01", 4)]
    assert client.usage(first="2026-11-02", last="2026-11-02", owner="tests")["rows"] == []
