from __future__ import annotations

from typing import Any

SCHEMA: dict[str, Any] = {"properties": {"prompt": {"type": "string"}}, "required": ["prompt"]}


def test_workflows_are_listed_with_their_schemas(web, report) -> None:
    assert web.get("/workflows").json == {"workflows": []}
    report("sd", lists={"workflows": {"fox": {"input": SCHEMA, "digest": "d"}, "bad": {"input": []}}})
    assert web.get("/workflows").json == {
        "workflows": [{"name": "fox", "kind": "sd.workflow/fox", "input": SCHEMA}],
    }  # fmt: skip
