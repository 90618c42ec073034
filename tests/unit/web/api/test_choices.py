"""Values that no live image engine has: refused at submit, in a dry run and in schedules, before anything is made."""

from __future__ import annotations

from typing import Any

import pytest

SPEC: dict[str, Any] = {"name": "x", "items": [{"prompt": "a", "sampler_name": "Oiler"}]}
RIGHT: dict[str, Any] = {"name": "x", "items": [{"prompt": "a", "sampler_name": "Euler"}]}
LISTS = {"samplers": [{"name": "Euler", "aliases": []}], "sd-models": [{"title": "one"}]}
SCHEDULE = {"name": "nightly", "cron": "0 1 * * *"}


@pytest.mark.parametrize("path", ["/batches", "/batches?dry_run=1"])
def test_a_batch_with_a_value_that_no_engine_has_is_refused(web, report, path: str) -> None:
    report("sd", "sd.batch", lists=LISTS)
    refused = web.post(path, json=SPEC)
    assert refused.status_code == 400
    message = "no engine has the sampler 'Oiler'; did you mean 'Euler'?"
    assert refused.json["error"]["problems"] == [{"path": "items[0].sampler_name", "message": message}]
    assert web.get("/batches").json["batches"] == []
    assert web.post(path, json=RIGHT).status_code in (200, 201)


def test_a_dry_run_says_what_nobody_could_check(web, report) -> None:
    (warning,) = web.post("/batches?dry_run=1", json=SPEC).json["warnings"]
    assert warning.startswith("items[0].sampler_name is not checked")
    assert web.post("/batches", json=SPEC).status_code == 201
    report("sd", "sd.batch", lists=LISTS)
    assert web.post("/batches?dry_run=1", json=RIGHT).json["warnings"] == []


def test_a_schedule_is_checked_when_it_is_made_and_when_it_is_run_by_hand(web, report) -> None:
    assert web.post("/schedules", json=SCHEDULE | {"spec": SPEC}).status_code == 201
    report("sd", "sd.batch", lists=LISTS)
    for refused in (
        web.post("/schedules", json=SCHEDULE | {"name": "other", "spec": SPEC}),
        web.put("/schedules/nightly", json={"cron": "0 2 * * *", "spec": SPEC}),
        web.post("/schedules/nightly/run"),
    ):
        assert refused.status_code == 400
        assert refused.json["error"]["problems"][0]["path"] == "spec.items[0].sampler_name"
    assert web.get("/batches").json["batches"] == []


def test_misspelt_fields_and_misspelt_names_are_told_in_one_answer(web, report) -> None:
    report("sd", "sd.batch", lists=LISTS)
    for wrong in ({"defaults": {"negativ_prompt": "x"}}, {"matrix": {"steps": 5}}, {"defaults": 5}):
        refused = web.post("/batches", json=SPEC | wrong)
        paths = [problem["path"] for problem in refused.json["error"]["problems"]]
        assert refused.status_code == 400
        assert "items[0].sampler_name" in paths
        assert len(paths) > 1


def test_a_misspelt_dry_run_makes_nothing(web) -> None:
    refused = web.post("/batches?dryrun=1", json=RIGHT)
    assert (refused.status_code, "did you mean 'dry_run'" in refused.json["error"]["message"]) == (400, True)
    assert web.get("/batches").json["batches"] == []


def test_fields_for_names_of_files_are_nothing_that_comfyui_has_to_know(web, report) -> None:
    report("sd", "sd.batch", lists=LISTS | {"engine": {"api": "comfyui"}})
    item = {"prompt": "a", "hero": "gimli"}
    document = {"name": "x", "items": [item], "output": {"pattern": "{hero}"}}
    assert web.post("/batches?dry_run=1", json=document).status_code == 200
    refused = web.post("/batches?dry_run=1", json=document | {"items": [item | {"enable_hr": True}]})
    assert [problem["path"] for problem in refused.json["error"]["problems"]] == ["enable_hr"]


def test_a_schedule_is_refused_what_its_engines_cannot_do(web, report) -> None:
    schedule = SCHEDULE | {"spec": {"name": "x", "items": [{"prompt": "a", "enable_hr": True}]}}
    assert web.post("/schedules", json=schedule).status_code == 201
    report("sd", "sd.batch", lists=LISTS | {"engine": {"api": "comfyui"}})
    for refused in (web.post("/schedules", json=schedule | {"name": "other"}), web.post("/schedules/nightly/run")):
        assert refused.status_code == 400
        assert [problem["path"] for problem in refused.json["error"]["problems"]] == ["spec.enable_hr"]
