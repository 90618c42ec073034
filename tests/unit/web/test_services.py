"""A server without a family of engines says so at once."""

from __future__ import annotations

import pytest

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


def test_tasks_wait_for_workers_that_are_away(web) -> None:
    accepted = web.post("/completion", json={"prompt": "Hi"}, headers={"Prefer": "respond-async"})
    assert accepted.status_code == 202
