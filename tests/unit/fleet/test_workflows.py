from __future__ import annotations

from typing import Any

import pytest

from graycat.fleet.workflows import is_schema, workflows_in

SCHEMA = {"properties": {"prompt": {"type": "string"}}, "required": ["prompt"]}


def entry(digest: str = "d", schema: Any = SCHEMA) -> dict[str, Any]:
    return {"input": schema, "digest": digest}


def test_workers_of_the_same_workflow_are_listed_together() -> None:
    catalogs = {
        "sd@a": {"workflows": {"fox": entry()}},
        "sd@b": {"workflows": {"fox": entry(), "cat": entry()}},
        "sd@c": {"workflows": {"fox": entry("other")}},
        "sd@d": {},
    }
    found = workflows_in(catalogs)
    assert {name: list(value.inputs) for name, value in found.items()} == {"fox": ["sd@a", "sd@b"], "cat": ["sd@b"]}


def test_the_workers_that_can_run_a_workflow_are_those_that_lack_nothing() -> None:
    lacking = entry("old") | {"missing": ["Loader.ckpt_name: the engine has no 'x'"]}
    found = workflows_in({"sd@a": {"workflows": {"fox": lacking}}, "sd@b": {"workflows": {"fox": entry("new")}}})
    assert (list(found["fox"].inputs), found["fox"].missing) == (["sd@b"], ())
    alone = workflows_in({"sd@a": {"workflows": {"fox": lacking}}})["fox"]
    assert (dict(alone.inputs), list(alone.missing)) == ({}, lacking["missing"])


@pytest.mark.parametrize(
    "schema",
    [
        None, [], {}, {"properties": []}, {"properties": {"a": 5}}, {"properties": {"a": {"type": ["string"]}}},
        {"properties": {"a": {"enum": "abc"}}}, {"properties": {"a": {"minimum": "1"}}},
        {"properties": {}, "required": ["a"]}, {"properties": {}, "required": 5},
    ],
)  # fmt: skip
def test_what_a_box_reports_is_looked_at(schema: Any) -> None:
    assert not is_schema(schema)
    assert workflows_in({"sd@a": {"workflows": {"fox": entry(schema=schema)}}, "sd@b": {"workflows": []}}) == {}
