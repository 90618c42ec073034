from __future__ import annotations

import json
from typing import Any

from graycat.queue.topology import model_queue


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


def test_aliases_of_models_that_are_there_are_listed(web_with, report) -> None:
    web = web_with(model_aliases="gpt-4o-mini=one,gpt-4o=gone,two=one")
    report("llm", name="a@box", models=["one"], model_list=model_list("one"))
    report("llm", name="b@box", models=["two"], model_list=model_list("two"))
    listed = {entry["id"]: entry for entry in web.get("/v1/models").json["data"]}
    assert sorted(listed) == ["gpt-4o-mini", "one", "two"]
    assert listed["one"]["aliases"] == ["gpt-4o-mini"]
    assert listed["gpt-4o-mini"] == {"id": "gpt-4o-mini", "object": "model", "aliases": ["one"]}


def test_one_model_is_the_entry_of_the_list(web_with, report) -> None:
    web = web_with(model_aliases="gpt-4o-mini=org/one")
    report("llm", models=["org/one"], model_list=model_list("org/one"))
    report("sd", lists={"sd-models": [{"title": "dreams", "model_name": "dreams"}]})
    listed = web.get("/v1/models").json["data"]
    assert [entry["id"] for entry in listed] == ["org/one", "gpt-4o-mini", "dreams"]
    for entry in listed:
        assert web.get(f"/v1/models/{entry['id']}").json == entry
    missing = web.get("/v1/models/gone")
    assert (missing.status_code, missing.json["error"]["type"]) == (404, "model_not_found")


def test_aliases_of_checkpoints_are_listed_by_any_of_their_names(web_with, report) -> None:
    web = web_with(model_aliases="painter=dreams.safetensors [01],gone=nowhere,cats=dreams")
    models = [{"title": "dreams.safetensors [01]", "model_name": "dreams"}, {"title": "cats", "model_name": "cats"}]
    report("sd", lists={"sd-models": models})
    report("llm", models=["one"], model_list=model_list("one"))
    listed = {entry["id"]: entry for entry in web.get("/v1/models").json["data"]}
    assert sorted(listed) == ["cats", "dreams", "one", "painter"]
    assert (listed["painter"]["aliases"], listed["painter"]["type"]) == (["dreams"], "image")
    assert listed["dreams"]["aliases"] == ["painter"]
    assert web.get("/v1/models/painter").json == listed["painter"]


def test_the_models_name_no_paths_but_for_admins(web, web_with, report) -> None:
    own = model_list("/srv/m/x.gguf", models=[{"model": "/srv/m/x.gguf", "status": {"args": ["-m", "/srv/m/x.gguf"]}}])
    report("llm", models=["x.gguf"], model_list=own)
    assert "/srv" not in web.get("/v1/models").text
    assert [entry["id"] for entry in web.get("/v1/models").json["data"]] == ["x.gguf"]
    assert web_with(admins="tests").get("/v1/models").json == json.loads(own)


def test_a_model_may_be_named_by_its_path_or_its_name(web, report, take) -> None:
    report("llm", name="a@box", models=["x.gguf"])
    report("llm", name="b@box", models=["y.gguf"])
    headers = {"Prefer": "respond-async"}
    for model in ("x.gguf", "/srv/m/x.gguf"):
        body: dict[str, Any] = {"model": model, "messages": []}
        assert web.post("/v1/chat/completions", json=body, headers=headers).status_code == 202
        assert take(model_queue("llm", "x.gguf")) is not None


def test_a_model_may_be_named_by_its_file_in_any_form(web, report, take) -> None:
    report("llm", name="a@box", models=["x"])
    report("llm", name="b@box", models=["y"])
    headers = {"Prefer": "respond-async"}
    for model in ("x", "x.gguf", "/srv/m/x.gguf", "models/x.GGUF", "C:\\models\\x.gguf"):
        body: dict[str, Any] = {"model": model, "messages": []}
        assert web.post("/v1/chat/completions", json=body, headers=headers).status_code == 202
        assert take(model_queue("llm", "x")) is not None


def test_engines_that_are_not_ready_list_nothing(web, report) -> None:
    report("llm", models=["one"], model_list=model_list("one"), engine_state="loading")
    response = web.get("/v1/models")
    assert (response.status_code, response.json["error"]["type"]) == (503, "unavailable_error")
