from __future__ import annotations

from typing import Any

import pytest

from graycat.engines.comfy.catalog import ComfyCatalog, choices_of, input_spec, match_file, stem
from graycat.images.webui_lists import WEBUI_LISTS

INFO: dict[str, Any] = {
    "KSampler": {
        "input": {"required": {"sampler_name": [["euler"], {}], "scheduler": ["COMBO", {"options": ["normal"]}]}}
    },
    "CheckpointLoaderSimple": {"input": {"required": {"ckpt_name": [["one.safetensors", "sub/two.ckpt"]]}}},
    "LoraLoader": {"input": {"required": {"lora_name": [["look.safetensors", 7]]}}},
    "Odd": {"input": {"required": [], "optional": {"a": "text", "b": []}}},
}


def test_both_forms_of_a_choice_are_read() -> None:
    assert choices_of(input_spec(INFO, "KSampler", "sampler_name")) == ["euler"]
    assert choices_of(input_spec(INFO, "KSampler", "scheduler")) == ["normal"]
    assert choices_of(("INT", {})) is choices_of(None) is None


@pytest.mark.parametrize(("node", "name"), [("None", "a"), ("Odd", "a"), ("Odd", "b"), ("KSampler", "nothing")])
def test_what_is_no_input_is_none(node: str, name: str) -> None:
    assert input_spec(INFO, node, name) is None


def test_every_list_of_a_webui_is_there() -> None:
    catalog = ComfyCatalog.read(INFO, ["easy"])
    lists = catalog.webui_lists("one.safetensors")
    assert set(lists) == set(WEBUI_LISTS)
    assert [row["title"] for row in lists["sd-models"]] == ["one.safetensors", "sub/two.ckpt"]
    assert [row["name"] for row in lists["loras"]] == ["look"]
    assert lists["options"]["sd_model_checkpoint"] == "one.safetensors"
    assert set(ComfyCatalog.read({}, []).webui_lists("")) == set(WEBUI_LISTS)


@pytest.mark.parametrize("asked", ["sub/two.ckpt", "two.ckpt", "two", "TWO", "two [0123456789]"])
def test_a_file_is_found_by_what_clients_call_it(asked: str) -> None:
    assert match_file(asked, ["one.safetensors", "sub/two.ckpt"]) == "sub/two.ckpt"


def test_no_file_is_found_by_a_part_of_its_name() -> None:
    assert match_file("tw", ["sub/two.ckpt"]) is None
    assert (stem("sub\\two.ckpt"), stem("")) == ("two", "")
