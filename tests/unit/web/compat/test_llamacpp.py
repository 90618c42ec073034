from __future__ import annotations

import json
from functools import partial

import pytest

from tests.support.helpers import outcome_of

OLD_UNITY = "UnityPlayer/2022.3.1f1 (UnityWebRequest/1.0, libcurl/7.84.0-DEV)"


def test_every_version_of_unity_reads_its_embedding(web, take, records) -> None:
    for agent, reply, read in (
        (OLD_UNITY, b'[{"index":0,"embedding":[[0.5,1.0]]}]', {"embedding": [0.5, 1.0]}),
        (OLD_UNITY, b'[{"index":0,"embedding":[0.5,1.0]}]', {"embedding": [0.5, 1.0]}),
        ("undream-client/2.0", b'[{"index":0,"embedding":[[0.5,1.0]]}]', [{"index": 0, "embedding": [[0.5, 1.0]]}]),
    ):
        headers = {"User-Agent": agent}
        response = outcome_of(partial(web.post, "/embeddings", json={"content": "Hi"}, headers=headers))
        records.succeed(take("llm"), 200, reply)
        assert response().json == read


def test_the_properties_are_the_engine_s_own_by_either_method(web, report) -> None:
    report("llm", props='{"default_generation_settings": {"n_ctx": 4096}}')
    for response in (web.get("/props"), web.post("/props", json={"stream": False}), web.post("/props", data=b"")):
        assert response.data == b'{"default_generation_settings": {"n_ctx": 4096}}'


@pytest.mark.parametrize(
    ("props", "template"),
    [({"chat_template": "<start_of_turn>{{ x }}"}, "gemma"), ({"chat_template": None}, "chatml"), ({}, "chatml")],
)
def test_older_unity_clients_ask_for_the_name_of_the_template(web, report, props, template: str) -> None:
    report("llm", props=json.dumps(props))
    assert web.post("/template", json={}).json == {"template": template}


@pytest.mark.parametrize(
    "props", ["", "[", "null", "[1]", "5", "[" * 100_000], ids=lambda props: f"{props[:4]}-{len(props)}"
)
def test_properties_that_are_no_json_object_name_the_usual_template(web, report, props: str) -> None:
    report("llm", props=props)
    assert web.post("/template", json={}).json == {"template": "chatml"}


@pytest.mark.parametrize("path", ["/slots", "/lora-adapters"])
def test_an_engine_s_state_may_be_read(web, take, records, path: str) -> None:
    response = outcome_of(lambda: web.get(path))
    records.succeed(take("llm.quick"), 200, b"[]")
    assert (response().status_code, response().json) == (200, [])


def test_the_slots_are_those_that_the_worker_saw_last_with_their_age(web, report, client) -> None:
    seen = [{"id": 0, "is_processing": True}]
    report("llm.quick")
    report("llm", lists={"/slots": seen}, slots_age_s=3.7)
    answer = web.get("/slots")
    assert (answer.status_code, answer.json, answer.content_type) == (200, seen, "application/json; charset=utf-8")
    assert answer.headers["Graycat-Answer-Age"] == "3"
    assert client.keys("graycat:task:*") == []


def test_other_callers_parameters_and_the_model_s_path_are_for_admins(web, web_with, report) -> None:
    slot = {"id": 0, "is_processing": True, "params": {"grammar": "secret"}, "next_token": [{"n_decoded": 1}]}
    props = {"model_path": "/srv/models/x.gguf", "total_slots": 1}
    report("llm", lists={"/slots": [slot]}, props=json.dumps(props))
    admin = web_with(admins="tests")
    assert web.get("/slots").json == [{"id": 0, "is_processing": True}]
    assert admin.get("/slots").json == [slot]
    assert web.post("/props").json == {"model_path": "x.gguf", "total_slots": 1}
    assert admin.get("/props").json == props


def test_the_slots_of_a_worker_that_does_not_tell_are_asked_of_the_engine(web, report, take, records) -> None:
    report("llm", lists={"/other": []})
    response = outcome_of(lambda: web.get("/slots"))
    records.succeed(take("llm.quick"), 200, b"[]")
    assert (response().status_code, response().json) == (200, [])


@pytest.mark.parametrize("method", ["put", "delete", "patch"])
@pytest.mark.parametrize(
    "path", ["/slots", "/slots/0?action=save", "/props", "/models/load", "/v1/stream/x", "/metrics"]
)
def test_an_engine_s_state_cannot_be_changed(web, method: str, path: str) -> None:
    assert web.open(path, method=method.upper(), json={}).status_code in (404, 405)


@pytest.mark.parametrize(("path", "body"), [("/tokenize", {"content": "Hi"}), ("/slots", None)])
def test_a_call_without_a_slot_that_nobody_takes_is_answered_soon(web_with, path: str, body) -> None:
    web = web_with(quick_timeout_s=0.2, queue_ttl_s=600)
    response = web.post(path, json=body) if body else web.get(path)
    assert (response.status_code, response.json["error"]["type"]) == (503, "task_expired")
