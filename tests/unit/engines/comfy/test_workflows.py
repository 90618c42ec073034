from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graycat.engines.comfy.generation import seed_of_task
from graycat.engines.comfy.workflows import NamedWorkflow, UnusableWorkflow, load_file, load_folder
from graycat.settings import Settings

INFO: dict[str, Any] = {
    "Text": {"input": {"required": {"text": ["STRING", {"multiline": True}], "clip": ["CLIP"]}}},
    "Sampler": {
        "input": {
            "required": {
                "seed": ["INT", {"min": 0, "max": 2**64 - 1}],
                "steps": ["INT", {"min": 1, "max": 10000}],
                "kind": [["a", "b"], {}],
            }
        }
    },
    "Load": {"input": {"required": {"image": [["mine.png"], {"image_upload": True}]}}},
    "Save": {"input": {"required": {"filename_prefix": ["STRING", {}]}}, "output_node": True},
    "SaveImageWebsocket": {"input": {}, "output_node": True},
}
WELL: dict[str, Any] = {
    "1": {"class_type": "Text", "inputs": {"text": "a fox", "clip": ["2", 0]}, "_meta": {"title": "input:prompt"}},
    "2": {
        "class_type": "Sampler",
        "inputs": {"seed": 5, "steps": 20, "kind": "a"},
        "_meta": {"title": "input:sampler"},
    },
    "3": {"class_type": "Load", "inputs": {"image": "mine.png"}, "_meta": {"title": "input:picture"}},
    "4": {"class_type": "Save", "inputs": {"filename_prefix": "mine", "images": ["3", 0]}, "_meta": {"title": "Save"}},
}


def load(folder: Path, workflow: Any = WELL, side: Any = None) -> NamedWorkflow:
    path = folder / "fox.json"
    path.write_text(workflow if isinstance(workflow, str) else json.dumps(workflow))
    if side is not None:
        (folder / "fox.inputs.json").write_text(json.dumps(side))
    return load_file(path, INFO, Settings())


def test_titles_name_inputs(tmp_path: Path) -> None:
    schema = load(tmp_path).schema
    assert list(schema["properties"]) == ["prompt", "sampler.seed", "sampler.steps", "sampler.kind", "picture"]
    assert schema["required"] == ["picture"]
    assert schema["properties"]["prompt"] == {"x-input": "text", "type": "string", "format": "text", "default": "a fox"}
    assert schema["properties"]["sampler.kind"]["enum"] == ["a", "b"]
    # graycat's limit, not the engine's.
    assert schema["properties"]["sampler.steps"]["maximum"] == Settings().max_steps
    assert schema["properties"]["sampler.seed"]["minimum"] == -1


def test_a_title_names_some_of_a_node_s_values(tmp_path: Path) -> None:
    some = json.loads(json.dumps(WELL))
    some["2"]["_meta"]["title"] = "input:seed=seed, steps = steps"
    assert {"seed", "steps"} < set(load(tmp_path, some).schema["properties"])


def test_a_side_file_names_inputs(tmp_path: Path) -> None:
    side = {"words": {"node": "1", "input": "text", "required": True, "description": "What it shows"}}
    schema = load(tmp_path, side=side).schema
    assert (list(schema["properties"]), schema["required"]) == (["words"], ["words"])
    assert schema["properties"]["words"]["description"] == "What it shows"


def test_values_are_filled_in_and_files_get_names(tmp_path: Path) -> None:
    filled, seeds = load(tmp_path).fill({"prompt": "a cat", "picture": "up.png"}, "8" * 32, "graycat/1")
    assert filled["1"]["inputs"] == {"text": "a cat", "clip": ["2", 0]}
    assert filled["3"]["inputs"] == {"image": "up.png"}
    assert filled["4"]["inputs"]["filename_prefix"] == "graycat/1"
    assert seeds == {"sampler.seed": seed_of_task("8" * 32)}
    assert filled["2"]["inputs"]["steps"] == 20


@pytest.mark.parametrize(
    ("workflow", "why"),
    [
        ("{", "no JSON"),
        ([], "API format"),
        ({}, "API format"),
        ({"nodes": [], "links": []}, "Export"),
        ({"1": {"class_type": "Text"}}, "API format"),
        ({"1": {"class_type": "Nobody", "inputs": {}}}, "Nobody"),
        ({"1": WELL["1"] | {"inputs": {"clip": ["9", 0]}}}, "not there"),
        ({"2": WELL["2"]}, "saves"),
        ({"1": {"class_type": "SaveImageWebsocket", "inputs": {}}}, "saves"),
        (WELL | {"5": WELL["3"]}, "two inputs"),
        (WELL | {"5": WELL["2"] | {"_meta": {"title": "input:a b=seed"}}}, "no name"),
        (WELL | {"5": WELL["2"] | {"_meta": {"title": "input:a=nothing"}}}, "no value"),
        (WELL | {"5": WELL["4"] | {"_meta": {"title": "input:it"}, "inputs": {"other": 1}}}, "does not say"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, workflow: Any, why: str) -> None:
    with pytest.raises(UnusableWorkflow, match=why):
        load(tmp_path, workflow)


@pytest.mark.parametrize("side", [[], {"a": 5}, {"a": {"node": "1", "input": "text", "nod": 1}}, {"a": {"node": "9"}}])
def test_a_side_file_that_cannot_be_used_says_why(tmp_path: Path, side: Any) -> None:
    with pytest.raises(UnusableWorkflow):
        load(tmp_path, side=side)


LOADER: dict[str, Any] = {
    "Loader": {"input": {"required": {"ckpt_name": [["sub/fox.safetensors"], {}], "mode": [["a"], {}]}}},
    "Sampler": {"input": {"required": {"sampler_name": ["COMBO", {"options": ["euler"]}]}}},
}


def load_with(folder: Path, title: str, **inputs: Any) -> NamedWorkflow:
    node = {"class_type": "Loader", "inputs": inputs, "_meta": {"title": title}}
    (folder / "fox.json").write_text(json.dumps({"4": WELL["4"], "3": WELL["3"], "5": node}))
    return load_file(folder / "fox.json", INFO | LOADER, Settings())


def test_a_fixed_model_that_the_engine_lacks_is_told_with_the_nearest(tmp_path: Path) -> None:
    found = load_with(tmp_path, "Loader", ckpt_name="sub\\fox.safetensors", mode="b")
    (sentence,) = found.missing
    assert sentence.startswith("Loader.ckpt_name: the engine has no 'sub")
    assert sentence.endswith("the nearest that it has is 'sub/fox.safetensors'")
    assert found.view()["missing"] == [sentence]
    assert list(load_folder(tmp_path, INFO | LOADER, Settings())) == ["fox"]
    # A choice of an extension's node may be another than it lists; one that is there is well.
    assert load_with(tmp_path, "Loader", ckpt_name="sub/fox.safetensors", mode="b").view().get("missing") is None


def test_a_fixed_sampler_that_the_engine_lacks_is_told(tmp_path: Path) -> None:
    node = {"class_type": "Sampler", "inputs": {"sampler_name": "eular"}}
    (tmp_path / "fox.json").write_text(json.dumps({"4": WELL["4"], "3": WELL["3"], "5": node}))
    (sentence,) = load_file(tmp_path / "fox.json", INFO | LOADER, Settings()).missing
    assert "the nearest that it has is 'euler'" in sentence


def test_an_input_whose_own_model_is_missing_is_required(tmp_path: Path) -> None:
    found = load_with(tmp_path, "input:model=ckpt_name", ckpt_name="gone.safetensors")
    assert found.missing == ()
    assert "model" in found.schema["required"]
    assert "default" not in found.schema["properties"]["model"]


def test_one_bad_file_leaves_the_others(tmp_path: Path) -> None:
    load(tmp_path)
    (tmp_path / "bad name!.json").write_text("{}")
    (tmp_path / "zz.json").write_bytes(b"\xff\xfe")
    assert list(load_folder(tmp_path, INFO, Settings())) == ["fox"]
    assert load_folder(tmp_path / "nowhere", INFO, Settings()) == {}


def test_no_caller_names_the_files_that_are_made(tmp_path: Path) -> None:
    named = json.loads(json.dumps(WELL))
    named["4"]["_meta"]["title"] = "input:files"
    assert "files" not in str(list(load(tmp_path, named).schema["properties"]))
    named["4"]["_meta"]["title"] = "input:files=filename_prefix"
    with pytest.raises(UnusableWorkflow, match="filename_prefix"):
        load(tmp_path, named)
    with pytest.raises(UnusableWorkflow, match="filename_prefix"):
        load(tmp_path, side={"files": {"node": "4", "input": "filename_prefix"}})


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"minimum": 9, "maximum": 1}, "no number is in the range"),
        ({"minimum": 10**6}, "no number is in the range"),
        ({"minimum": "1"}, "'minimum' must be a number"),
        ({"maximum": None}, "'maximum' must be a number"),
        ({"enum": "1"}, "'enum' has the wrong type"),
        ({"description": {"en": "steps"}}, "'description' has the wrong type"),
        ({"required": "no"}, "'required' has the wrong type"),
    ],
)
def test_a_side_file_says_what_can_be_checked(tmp_path: Path, entry: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnusableWorkflow, match=reason):
        load(tmp_path, side={"steps": {"node": "2", "input": "steps", **entry}})
