from __future__ import annotations

from typing import Any

SCHEMA: dict[str, Any] = {"properties": {"prompt": {"type": "string"}}, "required": ["prompt"]}


def test_workflows_are_listed_with_their_schemas(web, report) -> None:
    assert web.get("/workflows").json == {"workflows": []}
    report("sd", lists={"workflows": {"fox": {"input": SCHEMA, "digest": "d"}, "bad": {"input": []}}})
    assert web.get("/workflows").json == {
        "workflows": [{"name": "fox", "kind": "sd.workflow/fox", "input": SCHEMA, "available": True}],
    }  # fmt: skip


def test_a_workflow_that_no_engine_can_run_is_listed_with_the_reason(web, report) -> None:
    lacking = {"input": SCHEMA, "digest": "d", "missing": ["Loader.ckpt_name: the engine has no 'x'", 5]}
    report("sd", lists={"workflows": {"fox": lacking}})
    (listed,) = web.get("/workflows").json["workflows"]
    assert (listed["available"], listed["reason"]) == (False, "Loader.ckpt_name: the engine has no 'x'")
    report("sd", name="sd@two", lists={"workflows": {"fox": {"input": SCHEMA, "digest": "d"}}})
    (listed,) = web.get("/workflows").json["workflows"]
    assert (listed["available"], "reason" in listed) == (True, False)
