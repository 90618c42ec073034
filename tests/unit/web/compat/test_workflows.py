from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.webuis import encoded, picture

SCHEMA: dict[str, Any] = {
    "properties": {"prompt": {"type": "string", "format": "text"}, "picture": {"contentEncoding": "base64"}},
    "required": ["prompt"],
}
LISTED = {"fox": {"input": SCHEMA, "digest": "d"}}


def submit(web: Any, kind: str = "sd.workflow/fox", **given: Any) -> Any:
    return web.post("/tasks", json={"kind": kind, "input": given})


def test_a_task_of_a_workflow_has_its_name_in_its_kind(web, report, take) -> None:
    report("sd", lists={"workflows": LISTED})
    response = submit(web, prompt="a fox", picture=encoded(picture()))
    assert (response.status_code, response.json["kind"]) == (202, "sd.workflow/fox")
    attempt = take("sd")
    assert (attempt.kind, attempt.mode) == ("sd.workflow", "plain")
    assert json.loads(attempt.body) == {
        "workflow": "fox", "input": {"prompt": "a fox", "picture": encoded(picture())},
    }  # fmt: skip
    for kind, count in (("sd.workflow/fox", 1), ("sd.workflow/cat", 0)):
        assert len(web.get("/tasks", query_string={"kind": kind}).json["tasks"]) == count


@pytest.mark.parametrize(
    ("given", "named"),
    [({}, "input.prompt"), ({"prompt": 5}, "input.prompt"), ({"prompt": "x", "promt": "x"}, "input.promt")],
)
def test_an_input_is_checked_before_the_task_is_accepted(web, report, given: dict[str, Any], named: str) -> None:
    report("sd", lists={"workflows": LISTED})
    response = submit(web, **given)
    assert response.status_code == 400
    assert named in response.json["error"]["message"]
    assert web.get("/tasks").json["tasks"] == []


@pytest.mark.parametrize("kind", ["sd.workflow/fix", "sd.workflow/", "sd.workflow/../x"])
def test_a_workflow_that_nobody_has_is_404(web, report, kind: str) -> None:
    report("sd", lists={"workflows": LISTED})
    response = submit(web, kind, prompt="x")
    assert (response.status_code, response.json["error"]["type"]) == (404, "workflow_not_found")


def test_a_task_goes_to_a_worker_that_has_the_workflow(web, report, take) -> None:
    report("sd", name="sd@one", lists={"workflows": LISTED})
    report("sd", name="sd@two", lists={"options": {}})
    assert submit(web, prompt="a fox").status_code == 202
    assert take("sd:@sd@one").kind == "sd.workflow"
