from __future__ import annotations

from typing import Any

import pytest

from graycat.images.habits import A1111, SAFE_SEEDS, SD_SERVER, XINFERENCE, Habits, adapt, name_checkpoint, recognise

#: What the real engines list.
SD_SERVER_MODEL = {"title": "tiny", "model_name": "tiny", "hash": "8888888888", "sha256": "8" * 64, "config": None}
XINFERENCE_MODEL = {"model_name": "dreams", "config": None}


@pytest.mark.parametrize(
    ("models", "status", "habits"),
    [
        ([SD_SERVER_MODEL], 404, SD_SERVER),
        ([XINFERENCE_MODEL], 422, XINFERENCE),
        ([], 422, XINFERENCE),
        ([{"title": "a [0123456789]", "hash": "0123456789"}], 200, A1111),
        ([{"title": "Lykon/dreamshaper-8"}], 404, A1111),
        (None, 200, A1111),
        (["odd", {}], 200, A1111),
    ],
)
def test_an_engine_is_known_by_what_it_lists(models: Any, status: int, habits: Habits) -> None:
    assert recognise(models, status) is habits


@pytest.mark.parametrize(
    ("seed", "count", "sent"),
    [
        (7, 1, 7),
        (SAFE_SEEDS - 1, 1, SAFE_SEEDS - 1),
        (SAFE_SEEDS, 1, 0),
        (2**32 - 1, 1, SAFE_SEEDS - 1),
        (2**40 + 5, 1, 5),
        # The last image of a batch has a seed that the engine keeps, too.
        (SAFE_SEEDS - 1, 2, 0),
    ],
)
def test_a_seed_that_the_engine_would_replace_is_folded_and_told(seed: int, count: int, sent: int) -> None:
    adapted, warnings = adapt({"seed": seed, "batch_size": count}, SD_SERVER, {})
    assert (adapted["seed"], [w["field"] for w in warnings]) == (sent, [] if sent == seed else ["seed"])
    again, _ = adapt({"seed": seed, "batch_size": count}, SD_SERVER, {})
    assert again == adapted
    for warning in warnings:
        assert (warning["asked"], warning["made"]) == (seed, sent)
    assert adapt({"seed": seed}, A1111, {}) == ({"seed": seed}, [])


@pytest.mark.parametrize("body", [{}, {"seed": -1}, {"seed": -7}])
def test_a_seed_is_drawn_for_an_engine_that_draws_one_a_second(body: dict[str, Any]) -> None:
    asked: list[int] = []

    def draw(below: int) -> int:
        asked.append(below)
        return 42

    assert adapt(body | {"batch_size": 3}, SD_SERVER, {}, draw)[0]["seed"] == 42
    assert asked == [SAFE_SEEDS - 2]
    assert adapt(body, A1111, {}, draw) == (body, [])


def test_a_lora_tag_that_nobody_reads_is_told() -> None:
    for body in ({"prompt": "a cat <lora:ink:0.8>"}, {"prompt": "a cat", "hr_prompt": "<lora:ink:1>"}):
        _, warnings = adapt(body | {"seed": 1}, SD_SERVER, {})
        assert [warning["field"] for warning in warnings] == ["prompt"]
        assert adapt(body, A1111, {})[1] == []
    for prompt in ("a cat", "<lora>", "<lore:x:1>"):
        assert adapt({"prompt": prompt, "seed": 1}, SD_SERVER, {})[1] == []


def test_an_engine_that_wants_a_model_gets_its_first_one() -> None:
    lists = {"sd-models": [XINFERENCE_MODEL, {"model_name": "cats"}]}
    assert adapt({}, XINFERENCE, lists)[0] == {"override_settings": {"sd_model_checkpoint": "dreams"}}
    named = {"override_settings": {"sd_model_checkpoint": "cats", "sd_vae": "Automatic"}}
    assert adapt(named, XINFERENCE, lists)[0] == named
    assert adapt({}, A1111, lists)[0] == {}
    assert adapt({}, XINFERENCE, {})[0] == {}


@pytest.mark.parametrize(
    ("options", "lists", "sent"),
    [
        ({"sd_model_checkpoint": "dreamy", "a": 1}, True, {"sd_model_checkpoint": "dreamy_v8 [01]", "a": 1}),
        ({"sd_model_checkpoint": "01"}, True, {"sd_model_checkpoint": "dreamy_v8 [01]"}),
        ({"sd_model_checkpoint": "cats"}, True, {"sd_model_checkpoint": "cats"}),
        ({"sd_model_checkpoint": None}, True, {"sd_model_checkpoint": None}),
        ({"sd_model_checkpoint": "dreamy"}, False, {"sd_model_checkpoint": "dreamy"}),
        ({}, True, {}),
    ],
)  # fmt: skip
def test_a_change_of_settings_names_a_checkpoint_by_its_title(options: Any, lists: bool, sent: Any) -> None:
    catalog = {"sd-models": [{"title": "dreamy_v8 [01]", "hash": "01"}]} if lists else {}
    assert name_checkpoint(options, catalog) == sent


def test_a_part_of_a_checkpoint_s_title_is_sent_as_the_whole() -> None:
    lists = {"sd-models": [{"title": "dreamy_v8.safetensors [0123456789]", "hash": "0123456789"}]}
    body = {"override_settings": {"sd_model_checkpoint": "dreamy"}, "hr_checkpoint_name": "y_v8"}
    title = "dreamy_v8.safetensors [0123456789]"
    adapted, _ = adapt(body, A1111, lists)
    assert adapted["override_settings"] == {"sd_model_checkpoint": title}
    assert adapted["hr_checkpoint_name"] == title


def test_the_names_are_the_engine_s_own() -> None:
    lists = {"samplers": [{"name": "euler_a", "aliases": []}], "schedulers": [{"name": "karras", "label": "karras"}]}
    body = {"sampler_name": "Euler a Karras", "seed": 1}
    assert adapt(body, SD_SERVER, lists)[0] == {"sampler_name": "euler_a", "scheduler": "karras", "seed": 1}
    assert body == {"sampler_name": "Euler a Karras", "seed": 1}
