from __future__ import annotations

import json
from typing import Any

import pytest

from graycat.engines.llama_info import encode_known, known_models, known_props, replaced_names

SECRET = "--api-key hunter2"
PROPS = {
    "default_generation_settings": {"params": {"top_k": 40, "samplers": ["top_k"]}, "n_ctx": 512, "id": 0},
    "total_slots": 2,
    "chat_template": "{{ x }}",
    "chat_template_caps": {"supports_tools": True},
    "modalities": {"vision": False},
}
MODELS = {
    "models": [{"name": "a", "model": "a", "details": {"format": "gguf", "families": [""]}}],
    "object": "list",
    "data": [{"id": "a", "object": "model", "meta": {"n_ctx": 512}, "status": {"value": "loaded"}}],
}


def sprinkle(value: Any) -> Any:
    """Return JSON with a secret in each object of it, under names that nobody knows."""
    if isinstance(value, list):
        return [sprinkle(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    sprinkled = {name: sprinkle(field) for name, field in value.items()}
    return sprinkled | {"args": [SECRET], "cmdline": SECRET, "env": {"KEY": SECRET}, "path": f"/srv/{SECRET}"}


def test_what_is_known_stays_in_its_order() -> None:
    assert (json.dumps(known_props(PROPS)), known_models(MODELS)) == (json.dumps(PROPS), MODELS)


def test_what_an_engine_tells_besides_is_told_to_nobody() -> None:
    assert known_props(sprinkle(PROPS)) == PROPS
    assert known_models(sprinkle(MODELS)) == MODELS


@pytest.mark.parametrize("name", ["chat_template", "total_slots", "default_generation_settings", "modalities"])
def test_an_object_in_place_of_a_value_is_none(name: str) -> None:
    assert SECRET not in json.dumps(known_props({name: {"args": SECRET, "params": {"stop": {"x": SECRET}}}}))


@pytest.mark.parametrize("told", [{"data": 5}, {"data": ["a"]}, {"data": None}])
def test_a_list_that_is_none_is_refused(told: Any) -> None:
    with pytest.raises((TypeError, AttributeError)):
        known_models(told)


def test_models_are_listed_by_their_names() -> None:
    told = {"data": [{"id": "/srv/a.gguf", "aliases": ["b.gguf", 5]}], "models": [{"name": "m/c.gguf", "model": "d"}]}
    assert known_models(told) == {"data": [{"id": "a", "aliases": ["b"]}], "models": [{"name": "c", "model": "d"}]}


def test_bytes_stay_if_all_is_known() -> None:
    reply = b'{ "total_slots":2 }'
    assert encode_known(known_props({"total_slots": 2}), {"total_slots": 2}, reply) is reply


def test_only_names_that_are_files_are_replaced() -> None:
    assert replaced_names(["a", None, 5, "ggml-org/gemma:Q4"]) == {}
    assert replaced_names(["/srv/a.gguf"])[b'"/srv/a.gguf"'] == b'"a"'
