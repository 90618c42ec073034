from __future__ import annotations

import json
from typing import Any


def model_list(*names: str, **fields: Any) -> str:
    return json.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in names], **fields})


def test_the_models_of_all_engines_are_listed_once(web, report) -> None:
    report("llm", name="a@box", models=["one", "two"], model_list=model_list("one", "two"))
    report("llm", name="b@box", models=["two", "three"], model_list=model_list("two", "three"))
    report("llm.quick", name="q@box", models=["hidden"], model_list=model_list("hidden"))
    for path in ("/v1/models", "/models"):
        listed = web.get(path).json
        assert sorted(model["id"] for model in listed["data"]) == ["one", "three", "two"]
        assert listed["object"] == "list"


def test_one_engine_s_list_is_unchanged(web, report) -> None:
    own = model_list("one", models=[{"model": "one", "name": "one"}])
    report("llm", models=["one"], model_list=own)
    assert web.get("/v1/models").json == json.loads(own)


def test_engines_that_are_not_ready_list_nothing(web, report) -> None:
    report("llm", models=["one"], model_list=model_list("one"), engine_state="loading")
    response = web.get("/v1/models")
    assert (response.status_code, response.json["error"]["type"]) == (503, "unavailable_error")
