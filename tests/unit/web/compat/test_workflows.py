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


MISSING = ["Loader.ckpt_name: the engine has no 'x.safetensors'"]


def test_a_workflow_whose_checkpoint_is_missing_is_refused_before_it_waits(web, report, take) -> None:
    lacking = LISTED["fox"] | {"missing": MISSING}
    report("sd", name="sd@one", lists={"workflows": {"fox": lacking}})
    response = submit(web, prompt="a fox")
    assert (response.status_code, response.json["error"]["type"]) == (409, "workflow_unavailable")
    assert "x.safetensors" in response.json["error"]["message"]
    assert web.get("/tasks").json["tasks"] == []
    report("sd", name="sd@two", lists={"workflows": LISTED})
    assert submit(web, prompt="a fox").status_code == 202
    assert take("sd:@sd@two").kind == "sd.workflow"


def test_a_choice_is_that_of_the_engine_which_gets_the_task(web, report, take) -> None:
    def choosing(*names: str) -> dict[str, Any]:
        return {"workflows": {"fox": {"input": {"properties": {"model": {"enum": list(names)}}}, "digest": "d"}}}

    report("sd", name="sd@one", lists=choosing("a", "b"))
    report("sd", name="sd@two", lists=choosing("b", "c"))
    assert submit(web, model="c").status_code == 202
    assert take("sd:@sd@two").kind == "sd.workflow"
    assert submit(web, model="b").status_code == 202
    assert take("sd").kind == "sd.workflow"
    assert "input.model" in submit(web, model="d").json["error"]["message"]
