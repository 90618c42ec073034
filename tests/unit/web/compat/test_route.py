"""What holds for every route of the tables."""

from __future__ import annotations

import json

import pytest

from graycat.web.compat.text_routes import TEXT_ROUTES
from tests.support.helpers import outcome_of

POSTS = [
    (path, route) for route in TEXT_ROUTES for path in route.paths if route.kind.method == "POST" and not route.admin
]
STREAMED = [(path, route) for path, route in POSTS if route.streams]
BY_MODEL = [(path, route) for path, route in POSTS if route.by_model]


def body_of(route, **fields) -> dict[str, object]:
    return dict.fromkeys(route.required, "Hi") | fields


@pytest.mark.parametrize(("path", "route"), POSTS, ids=[path for path, _ in POSTS])
def test_a_body_reaches_the_engine_byte_for_byte(web, take, records, path: str, route) -> None:
    raw = json.dumps(body_of(route, unknown={"a": [1.5, None, "ü"]}), indent=1).encode()
    response = outcome_of(lambda: web.post(path, data=raw, headers={"Prefer": "wait"}))
    attempt = take(route.kind.queue)
    records.succeed(attempt, 200, b'[{"embedding":[1]}]')
    assert response().status_code == 200
    assert attempt.kind == route.kind.name
    if attempt.mode == "gather":
        assert json.loads(attempt.body) == json.loads(raw) | {"stream": True}
    else:
        assert attempt.body == raw


@pytest.mark.parametrize(("path", "route"), STREAMED, ids=[path for path, _ in STREAMED])
def test_a_stream_that_fails_late_ends_with_an_error_event(web, take, records, path: str, route) -> None:
    response = outcome_of(lambda: web.post(path, json=body_of(route, stream=True)))
    attempt = take(route.kind.queue)
    assert attempt.mode == "stream"
    records.publish(attempt, 1, [b"data: {}\n\n"])
    records.finish_cancelled(attempt)
    chunks = list(response().response)
    assert chunks[0] == b"data: {}\n\n"
    assert b"task_cancelled" in chunks[-1]
    assert chunks[-1].endswith(b"\n\n")


@pytest.mark.parametrize("path", [path for path, _ in POSTS])
def test_text_over_the_limit_is_refused_before_it_is_queued(web_with, broker, path: str) -> None:
    web = web_with(max_prompt_chars=10)
    messages = [{"role": "user", "content": [{"type": "text", "text": "x" * 20}]}]
    for field, value in (("prompt", "x" * 11), ("messages", messages), ("input", ["xxxxxx"] * 2)):
        response = web.post(path, json={field: value})
        assert (response.status_code, response.json["error"]["type"]) == (413, "prompt_too_large")
    assert broker.client.keys("graycat:task:*") == []


def test_a_full_queue_refuses_requests_with_retry_after(web_with, broker) -> None:
    web = web_with(queue_cap=1)
    headers = {"Prefer": "respond-async"}
    assert web.post("/completion", json={"prompt": "Hi"}, headers=headers).status_code == 202
    response = web.post("/completion", json={"prompt": "Hi"}, headers=headers)
    assert (response.status_code, response.json["error"]["type"]) == (503, "queue_full")
    assert response.headers["Retry-After"] == "5"
    assert broker.client.llen("llm") == 1


@pytest.mark.parametrize(("path", "route"), POSTS, ids=[path for path, _ in POSTS])
def test_respond_async_returns_the_task_s_address(web, take, records, path: str, route) -> None:
    response = web.post(path, json=body_of(route), headers={"Prefer": "respond-async", "X-Request-ID": "r-9"})
    assert response.status_code == 202
    assert response.headers["Preference-Applied"] == "respond-async"
    attempt = take(route.kind.queue)
    assert response.headers["Location"] == f"/tasks/{attempt.task_id}" == response.json["links"]["self"]
    assert attempt.request_id == "r-9"


@pytest.mark.parametrize(("path", "route"), BY_MODEL, ids=[path for path, _ in BY_MODEL])
def test_a_model_chooses_among_the_workers(web, report, broker, records, path: str, route) -> None:
    headers = {"Prefer": "respond-async"}

    def choose_queue(model: str) -> str:
        response = web.post(path, json=body_of(route, model=model), headers=headers)
        queue: str = records.get(response.json["id"])["queue"]
        return queue

    report(route.kind.queue, models=["a", "b"])
    assert choose_queue("a") == route.kind.queue
    report(route.kind.queue, name="other@box", models=["b"])
    assert choose_queue("a") == f"{route.kind.queue}:a"
    assert broker.client.llen(f"{route.kind.queue}:a") == 1
    assert choose_queue("b") == route.kind.queue
    response = web.post(path, json=body_of(route, model="c"), headers=headers)
    assert (response.status_code, response.json["error"]["type"]) == (404, "model_not_found")


@pytest.mark.parametrize(("path", "route"), POSTS, ids=[path for path, _ in POSTS])
def test_an_alias_chooses_its_model_and_the_engine_is_asked_for_that(
    web_with, report, take, records, path: str, route
) -> None:
    web = web_with(model_aliases="gpt-4o-mini=a")
    report(route.kind.queue, models=["a"], props="{}")
    report(route.kind.queue, name="other@box", models=["b"])
    task = web.post(path, json=body_of(route, model="gpt-4o-mini"), headers={"Prefer": "respond-async"}).json
    assert records.get(task["id"])["queue"] == f"{route.kind.queue}:a"
    assert json.loads(take(f"{route.kind.queue}:a").body)["model"] == "a"


def test_a_model_that_may_come_with_an_engine_that_loads_is_503_and_not_404(web, report) -> None:
    report("llm", models=["a"])
    report("llm", name="other@box", engine_state="loading", consuming=False)
    response = web.post("/v1/chat/completions", json={"model": "b", "messages": []})
    assert (response.status_code, response.json["error"]["type"]) == (503, "unavailable_error")
    assert "one still loads" in response.json["error"]["message"]
    assert response.headers["Retry-After"] == "2"


def test_while_every_engine_loads_a_request_waits_with_its_name(web, web_with, report, take) -> None:
    report("llm", engine_state="loading", consuming=False)
    body = {"model": "b", "messages": []}
    assert web.post("/v1/chat/completions", json=body, headers={"Prefer": "respond-async"}).status_code == 202
    assert json.loads(take("llm").body)["model"] == "b"
    # Where any name is served, none is named: a worker would refuse it.
    serving = web_with(unknown_model="serve")
    assert serving.post("/v1/chat/completions", json=body, headers={"Prefer": "respond-async"}).status_code == 202
    assert json.loads(take("llm").body) == {"messages": []}


def test_a_name_that_nobody_serves_is_told_as_its_caller_wrote_it(web_with, report) -> None:
    web = web_with(model_aliases="gpt-4o-mini=gone")
    report("llm", models=["a"])
    messages = []
    for name in ("gpt-4o-mini", "placeholder"):
        response = web.post("/v1/chat/completions", json={"model": name, "messages": []})
        messages.append(response.json["error"]["message"])
    assert "serves the model 'gone', which 'gpt-4o-mini' stands for, here;" in messages[0]
    # GET /v1/models lists it: the message may not say that nobody has it.
    assert "with 'type': 'image' make images" in messages[1]
    assert "stands for" not in messages[1]


def test_a_task_s_alias_is_that_of_its_route(web_with, report, take) -> None:
    web = web_with(model_aliases="gpt-4o-mini=a")
    report("llm", models=["a"])
    body = {"kind": "llm.chat", "input": {"messages": [], "model": "gpt-4o-mini"}}
    assert web.post("/tasks", json=body).status_code == 202
    assert json.loads(take("llm").body)["model"] == "a"


def test_an_unknown_model_is_served_by_the_only_one_if_the_operator_wants_that(
    web_with, report, take, monkeypatch
) -> None:
    monkeypatch.setattr("graycat.web.services.WORKERS_CACHE_S", 0.0)
    web = web_with(unknown_model="serve")
    headers = {"Prefer": "respond-async"}
    report("llm", models=["a"])
    assert web.post("/v1/chat/completions", json={"model": "gpt-3"}, headers=headers).status_code == 202
    assert json.loads(take("llm").body)["model"] == "a"
    report("llm", name="other@box", models=["b"])
    assert web.post("/v1/chat/completions", json={"model": "gpt-3"}, headers=headers).status_code == 404


def test_on_llama_cpp_s_own_routes_an_unknown_model_is_left_to_the_engine(web, report, take) -> None:
    report("llm", models=["a"])
    report("llm", name="other@box", models=["b"])
    headers = {"Prefer": "respond-async"}
    assert web.post("/completion", json={"prompt": "x", "model": "c"}, headers=headers).status_code == 202
    assert json.loads(take("llm").body)["model"] == "c"


def test_tools_that_a_model_is_not_shown_are_refused_before_anything_is_queued(web, report, broker) -> None:
    report("llm", models=["a"], props='{"chat_template_caps": {"supports_tools": false}}')
    tool = {"type": "function", "function": {"name": "f"}}
    response = web.post("/v1/chat/completions", json={"messages": [], "tools": [tool]})
    assert (response.status_code, response.json["error"]["type"]) == (400, "unsupported_parameter")
    assert broker.client.llen("llm") == 0


def test_while_no_worker_is_known_no_model_is_unknown(web, broker) -> None:
    headers = {"Prefer": "respond-async"}
    assert web.post("/v1/chat/completions", json={"model": "a", "messages": []}, headers=headers).status_code == 202


def test_the_message_on_a_model_s_queue_names_that_queue(web, report, broker) -> None:
    report("llm", models=["a"])
    report("llm", name="other@box", models=["b"])
    web.post("/v1/chat/completions", json={"model": "a"}, headers={"Prefer": "respond-async"})
    message = json.loads(broker.client.lrange("llm:a", 0, -1)[0])
    assert message["properties"]["delivery_info"] == {"exchange": "", "routing_key": "llm:a"}


def test_an_admin_s_route_is_closed_to_others(web) -> None:
    response = web.post("/lora-adapters", json=[])
    assert (response.status_code, response.json["error"]["type"]) == (403, "permission_error")


def test_an_admin_s_route_is_open_to_admins(web_with, take, records) -> None:
    web = web_with(admins="tests")
    response = outcome_of(lambda: web.post("/lora-adapters", data=b'[{"id":0,"scale":0.5}]'))
    attempt = take("llm.quick")
    records.succeed(attempt, 200, b'{"success":true}')
    assert (response().status_code, attempt.body) == (200, b'[{"id":0,"scale":0.5}]')


@pytest.mark.parametrize("path", [path for path, _ in POSTS])
def test_what_would_cost_an_engine_too_much_is_refused_before_it_is_queued(web_with, broker, path: str) -> None:
    web = web_with(max_tools=1, max_repetition=10, max_words=2, max_json_depth=8)
    tools = [{"name": "f", "input_schema": {"properties": {"x": {"maxLength": 11}}}}]
    deep: object = 1
    for _ in range(8):
        deep = [deep]
    bodies: list[tuple[dict[str, object], str]] = [
        ({"tools": tools}, "tools[0].input_schema.properties.x.maxLength has 11"),
        ({"tools": [{}, {}]}, "tools has 2 tools; this server takes 1 (GRAYCAT_MAX_TOOLS)"),
        ({"response_format": {"json_schema": {"schema": {"minItems": 11}}}}, "json_schema.schema.minItems has 11"),
        ({"grammar": "root ::= [a]{11}"}, "grammar has 11"),
        ({"stop": ["a", "b", "c"]}, "stop has 3"),
        ({"unknown": deep}, "nested more than 8 levels"),
    ]
    for body, message in bodies:
        response = web.post(path, json={"prompt": "Hi", **body})
        assert (response.status_code, response.json["error"]["type"]) == (400, "too_complex")
        assert message in response.json["error"]["message"]
    assert broker.client.keys("graycat:task:*") == []
