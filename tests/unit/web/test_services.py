"""A server without a family of engines says so at once."""

from __future__ import annotations

import json
import time

import pytest
from werkzeug.test import TestResponse

from graycat.broker.keys import fleet_key, share_of_worker
from graycat.fleet.workers import MISSED_FOR_S
from graycat.web.services import AGE_HEADER
from tests.support.helpers import AT_ONCE_S, Stopwatch
from tests.unit.web.api.test_schedules import SPEC

TEXT_CALLS = {
    "/completion": {"prompt": "Hi"},
    "/v1/chat/completions": {"messages": []},
    "/tokenize": {"content": "Hi"},
    "/tasks": {"kind": "llm.completion", "input": {"prompt": "Hi"}},
    "/props": None,
    "/health": None,
}
IMAGE_CALLS = {
    "/sdapi/v1/txt2img": {"prompt": "Hi"},
    "/generate-image": {"prompt": "Hi"},
    "/v1/images/generations": {"prompt": "Hi"},
    "/tasks": {"kind": "sd.txt2img", "input": {"prompt": "Hi"}},
    "/batches": SPEC,
}


def message_of(response) -> str:
    body = response.json
    return str(body["detail"] if "detail" in body else body["error"]["message"])


@pytest.mark.parametrize(
    ("setting", "variable", "address", "body"),
    [
        *(("run_llm", "RUN_LLM", address, body) for address, body in TEXT_CALLS.items()),
        *(("run_sd", "RUN_SD", address, body) for address, body in IMAGE_CALLS.items()),
    ],
)
def test_a_family_that_the_server_does_not_run_is_refused_at_once(
    web_with, client, setting: str, variable: str, address: str, body
) -> None:
    web = web_with(**{setting: False})
    watch = Stopwatch()
    refused = web.post(address, json=body)
    assert refused.status_code == 503
    assert f"({variable}=false)" in message_of(refused)
    assert "unavailable_error" in refused.get_data(as_text=True)
    assert "Retry-After" not in refused.headers
    assert watch.seconds < AT_ONCE_S
    assert not list(client.scan_iter("graycat:task:*")) + list(client.scan_iter("graycat:batch:*"))


def test_models_of_a_family_that_the_server_does_not_run(web_with) -> None:
    assert "(RUN_LLM=false)" in message_of(web_with(run_llm=False).get("/v1/models"))


def test_a_worker_elsewhere_serves_a_family_that_this_server_does_not_run(web_with, report) -> None:
    report("llm", "llm.batch")
    accepted = web_with(run_llm=False).post("/completion", json={"prompt": "Hi"}, headers={"Prefer": "respond-async"})
    assert accepted.status_code == 202


@pytest.mark.parametrize(("away_s", "status"), [(60.0, 202), (MISSED_FOR_S + 60.0, 503)], ids=["missed", "forgotten"])
def test_tasks_wait_for_a_box_elsewhere_that_starts_anew(web_with, client, away_s: float, status: int) -> None:
    name = "sd@box"
    client.zadd(fleet_key(share_of_worker(name)), {name: time.time() - away_s})
    body = {"kind": "sd.txt2img", "input": {"prompt": "Hi"}}
    assert web_with(run_sd=False).post("/tasks", json=body).status_code == status
    text = {"kind": "llm.completion", "input": {"prompt": "Hi"}}
    assert web_with(run_llm=False).post("/tasks", json=text).status_code == 503


def test_tasks_wait_for_workers_that_are_away(web) -> None:
    accepted = web.post("/completion", json={"prompt": "Hi"}, headers={"Prefer": "respond-async"})
    assert accepted.status_code == 202


PROPS = {"default_generation_settings": {"n_ctx": 4096}}
MODELS = {"object": "list", "data": [{"id": "one"}]}


def report_engine(report, state: str = "ready", **changes) -> None:
    fields = {"props": json.dumps(PROPS), "models": ["one"], "model_list": json.dumps(MODELS)} | changes
    report("llm", engine_state=state, **{"consuming": state == "ready", **fields})


def ask(web) -> list[TestResponse]:
    return [web.get("/props"), web.post("/props"), web.get("/v1/models"), web.post("/health")]


@pytest.mark.parametrize("state", ["stopped", "loading", "downloading"])
def test_the_last_answer_bridges_an_engine_s_restart(web, report, state: str) -> None:
    report_engine(report)
    for response in ask(web):
        assert response.status_code == 200
        assert AGE_HEADER not in response.headers
    report_engine(report, state, props="", model_list="", models=[])
    props, _, models, health = answers = ask(web)
    assert [response.status_code for response in answers] == [200] * 4
    assert all(0 <= int(response.headers[AGE_HEADER]) < 10 for response in answers)
    assert (props.json, models.json, health.json) == (PROPS, MODELS, {"status": "ok"})
    report_engine(report)
    assert AGE_HEADER not in web.get("/props").headers


def test_without_a_worker_the_model_is_known_and_the_engine_is_not_well(web, report, client) -> None:
    report_engine(report)
    assert web.get("/props").status_code == 200
    client.delete("graycat:worker:llm@box")
    assert [response.status_code for response in ask(web)] == [200, 200, 200, 503]


@pytest.mark.parametrize("changes", [{"crash_loop": True}, {"paused": True}, {"left": ["llm"]}])
def test_an_engine_that_does_not_come_back_is_not_well(web, report, changes) -> None:
    report_engine(report)
    assert web.post("/health").status_code == 200
    report_engine(report, "loading", **changes)
    assert web.post("/health").status_code == 503


def test_a_last_answer_is_not_bridged_for_ever(web, report, monkeypatch: pytest.MonkeyPatch) -> None:
    report_engine(report)
    assert web.get("/props").status_code == 200
    report_engine(report, "loading")
    monkeypatch.setattr("graycat.web.services.LAST_ANSWER_TTL_S", -1.0)
    assert [response.status_code for response in ask(web)] == [503] * 4


def test_an_engine_that_has_just_come_is_seen_at_once(web_with, report) -> None:
    web = web_with()
    assert web.get("/props").status_code == 503
    report_engine(report)
    assert web.get("/props").status_code == 200
