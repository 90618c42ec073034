from __future__ import annotations

from typing import Any

import pytest

from graycat.engines.placeholder import catalog
from graycat.images.webui_lists import WEBUI_LISTS
from graycat.web.compat.webui_lists import merge_lists

ONE, TWO = {"title": "one [01]", "model_name": "one"}, {"title": "two [02]", "model_name": "two"}


@pytest.mark.parametrize("name", [name for name in WEBUI_LISTS if name in catalog.LISTS])
def test_one_engine_s_list_is_unchanged(name: str) -> None:
    assert merge_lists(name, [catalog.LISTS[name]]) == catalog.LISTS[name]


@pytest.mark.parametrize("name", [name for name in WEBUI_LISTS if name in catalog.LISTS])
def test_engines_that_are_alike_list_everything_once(name: str) -> None:
    assert merge_lists(name, [catalog.LISTS[name]] * 3) == catalog.LISTS[name]


def test_the_first_engine_s_entries_come_first() -> None:
    changed = TWO | {"filename": "elsewhere"}
    assert merge_lists("sd-models", [[TWO], [ONE, changed]]) == [TWO, ONE]


@pytest.mark.parametrize("field", ["title", "name", "model_name", "label"])
def test_an_entry_is_known_by_its_name(field: str) -> None:
    lists = [[{field: "a"}], [{field: "a"}, {field: "b"}]]
    assert merge_lists("loras", lists) == [{field: "a"}, {field: "b"}]


def test_entries_without_a_name_are_compared_by_content() -> None:
    assert merge_lists("loras", [[{"x": 1}], [{"x": 1}, {"x": 2}, "y"]]) == [{"x": 1}, {"x": 2}, "y"]


def test_a_script_is_listed_for_each_kind_of_generation() -> None:
    both = [{"name": "seed", "is_img2img": False}, {"name": "seed", "is_img2img": True}]
    assert merge_lists("script-info", [both, both]) == both


def test_lists_within_an_object_are_joined_one_by_one() -> None:
    first = {"txt2img": ["seed"], "img2img": ["seed"]}
    second = {"txt2img": ["seed", "x/y/z plot"], "img2img": []}
    assert merge_lists("scripts", [first, second]) == {"txt2img": ["seed", "x/y/z plot"], "img2img": ["seed"]}


def test_objects_within_an_object_are_joined_by_their_keys() -> None:
    first = {"loaded": {"a": {"step": 1}}, "skipped": {}}
    second = {"loaded": {"a": {"step": 2}, "b": {"step": 3}}, "skipped": {}}
    assert merge_lists("embeddings", [first, second]) == {"loaded": {"a": {"step": 1}, "b": {"step": 3}}, "skipped": {}}


@pytest.mark.parametrize(
    ("lists", "joined"),
    [
        ([{"loaded": {"a": 1}}, {"loaded": ["b"]}], {"loaded": {"a": 1}}),
        ([{"loaded": ["b"]}, {"loaded": {"a": 1}}], {"loaded": ["b"]}),
        ([{"loaded": ["b"]}, []], {"loaded": ["b"]}),
        ([{"loaded": None}, {"loaded": ["b"]}], {"loaded": ["b"]}),
        ([["a"], {"loaded": {}}], ["a"]),
    ],
)
def test_lists_of_different_shapes_are_merged(lists: list[Any], joined: Any) -> None:
    assert merge_lists("embeddings", lists) == joined


@pytest.mark.parametrize(("name", "nothing"), [("loras", []), ("options", {}), ("scripts", {}), ("embeddings", {})])
def test_a_list_that_no_engine_has_is_empty(name: str, nothing: Any) -> None:
    assert merge_lists(name, []) == nothing


def test_options_are_the_first_engine_s() -> None:
    assert merge_lists("options", [{"samples_format": "png"}, {"samples_format": "jpg", "x": 1}]) == {
        "samples_format": "png"
    }


@pytest.mark.parametrize(
    "key", ["s3_password", "api_key", "openai_API_Key", "huggingface_token", "client_secret", "gradio_auth"]
)
def test_secret_options_are_left_out(key: str) -> None:
    assert merge_lists("options", [{key: "hush-hush", "token_merging_ratio": 0.5}]) == {"token_merging_ratio": 0.5}
