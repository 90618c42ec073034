from __future__ import annotations

from typing import Any

import pytest

from graycat.batches import spec
from graycat.batches.errors import InvalidBatch
from graycat.batches.spec.images import Images, PromptRequest, Seeds
from graycat.settings import Settings

SETTINGS = Settings()


def images(**fields: Any) -> Images:
    return spec.parse({"name": "x"} | fields, SETTINGS).images


def problems(**fields: Any) -> dict[str, str]:
    with pytest.raises(InvalidBatch) as caught:
        spec.parse({"name": "x"} | fields, SETTINGS)
    return dict(caught.value.problems)


def test_items_are_prompts_or_objects_over_the_defaults() -> None:
    found = images(items=["a", {"prompt": "b", "steps": 3}], defaults={"steps": 9, "width": 64})
    assert [(body["prompt"], body["steps"], body["width"]) for body in found.bodies] == [("a", 9, 64), ("b", 3, 64)]
    # As in any request: the engine writes nothing to its own disk.
    assert all(body["save_images"] is False for body in found.bodies)


def test_a_seed_that_is_whole_is_a_number() -> None:
    body = images(items=[{"prompt": "a", "seed": 5.0}]).bodies[0]
    assert (body["seed"], type(body["seed"])) == (5, int)


def test_a_matrix_is_every_combination() -> None:
    found = images(matrix={"prompts": ["a", "b"], "seeds": [1, 2], "sizes": ["64x128", "128x64"], "cfg_scale": [7]})
    assert found.total == 8
    assert found.bodies[1] | {"save_images": False} == {
        "prompt": "a", "seed": 1, "width": 128, "height": 64, "cfg_scale": 7, "save_images": False,
    }  # fmt: skip


def test_prompts_may_be_written_by_a_text_engine() -> None:
    found = images(
        prompts={"ask": "20 portraits for a tavern", "count": 20, "seed": 4}, matrix={"seed": [1, 2]}, count=3
    )
    assert found.prompt_request == PromptRequest("20 portraits for a tavern", 20, 0.9, 4, "")
    assert found.total == 120


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({}, "items"),
        ({"items": []}, "items"),
        ({"items": "prompts.csv"}, "items"),
        ({"items": ["a"], "matrix": {"prompt": ["a"]}}, "items"),
        ({"items": ["a"], "prompts": {"ask": "x", "count": 1}}, "items"),
        ({"matrix": {"prompt": ["a"]}, "prompts": {"ask": "x", "count": 1}}, "matrix.prompt"),
        ({"matrix": []}, "matrix"),
        ({"matrix": {"prompt": "a"}}, "matrix.prompt"),
        ({"matrix": {"prompt": ["a"], "size": ["big"]}}, "matrix.size[0].size"),
        ({"matrix": {"prompt": ["a"], "steps": [1, 9999]}}, "matrix.steps[1]"),
        ({"matrix": {"steps": [1]}}, "matrix"),
        ({"items": [{"prompt": 1}]}, "items[0]"),
        ({"items": [{"prompt": "a", "n_iter": 4}]}, "items[0].n_iter"),
        ({"items": [{"prompt": "a", "seed": "x"}]}, "items[0].seed"),
        ({"items": [{"prompt": "a", "seed": 1.5}]}, "items[0].seed"),
        ({"items": [{"prompt": "a", "subseed": 1.5}]}, "items[0].subseed"),
        ({"items": [{"prompt": "a", "styles": [None]}]}, "items[0].styles"),
        ({"items": ["a"], "defaults": {"styles": [7]}}, "defaults.styles"),
        ({"items": [{"prompt": "a", "override_settings": {"outdir": "/"}}]}, "items[0].override_settings"),
        ({"items": ["a"], "defaults": []}, "defaults"),
        ({"items": ["a"], "defaults": {"batch_size": 2}}, "defaults.batch_size"),
        ({"items": ["a"], "count": 0}, "count"),
        ({"items": ["a"], "seeds": "often"}, "seeds.policy"),
        ({"items": ["a"], "seeds": {"policy": "per_item"}}, "seeds.seed"),
        ({"prompts": "a text without a count"}, "prompts.count"),
        ({"prompts": {"count": 3}}, "prompts.ask"),
        ({"prompts": {"ask": "x", "count": 3, "temperature": "hot"}}, "prompts.temperature"),
        ({"items": ["x" * 500_000]}, "items[0].prompt"),
    ],
)
def test_each_problem_has_its_path(fields: dict[str, Any], path: str) -> None:
    assert path in problems(**fields)


def test_a_problem_of_the_defaults_is_reported_once() -> None:
    assert list(problems(items=["a", "b", "c"], defaults={"steps": 9999})) == ["defaults.steps"]


def test_a_combination_that_is_too_large_is_reported() -> None:
    found = problems(matrix={"prompt": ["a"], "width": [64, 8192], "height": [8192]})
    assert list(found) == ["matrix"]


@pytest.mark.parametrize(
    ("fields", "seeds"),
    [
        ({}, Seeds("random", 0)),
        ({"defaults": {"seed": 7}}, Seeds("fixed", 7)),
        ({"defaults": {"seed": 7.0}}, Seeds("fixed", 7)),
        ({"defaults": {"seed": -1}}, Seeds("random", 0)),
        ({"seeds": "random"}, Seeds("random", 0)),
        ({"seeds": {"policy": "per-item", "seed": 9}}, Seeds("per_item", 9)),
        ({"seeds": "fixed", "defaults": {"seed": 3}}, Seeds("fixed", 3)),
    ],
)
def test_how_seeds_are_chosen(fields: dict[str, Any], seeds: Seeds) -> None:
    assert images(items=["a"], **fields).seeds == seeds


@pytest.mark.parametrize(
    ("part", "path", "nearest"),
    [
        ({"items": [{"prompt": "x", "negativ_prompt": "y"}]}, "items[0].negativ_prompt", "negative_prompt"),
        ({"items": ["x"], "defaults": {"stepz": 3}}, "defaults.stepz", "steps"),
        ({"items": ["x"], "defaults": {"model": "y"}}, "defaults.model", "override_settings.sd_model_checkpoint"),
        ({"matrix": {"prompts": ["x"], "negativ_prompts": ["y"]}}, "matrix.negativ_prompts", "negative_prompts"),
        ({"matrix": {"prompts": ["x"], "sampler": ["Euler"]}}, "matrix.sampler", "sampler_name"),
        ({"items": ["x"], "seeds": {"polcy": "fixed"}}, "seeds.polcy", "policy"),
        ({"prompts": {"ask": "x", "count": 1, "temprature": 1}}, "prompts.temprature", "temperature"),
        ({"items": ["x"], "output": {"patern": "x"}}, "output.patern", "pattern"),
        ({"items": ["x"], "steps": 3}, "steps", "defaults.steps"),
        ({"items": ["x"], "dedline": "6h"}, "dedline", "deadline"),
        ({"items": ["x"], "output": {"pattern": "{sampler}-{item}"}}, "output.pattern", "sampler_name"),
        ({"items": ["x"], "webhook": {"url": "https://x.example", "event": ["failed"]}}, "webhook", "events"),
    ],
)
def test_a_name_that_nobody_knows_is_refused_with_its_path_and_the_nearest(
    part: dict[str, Any], path: str, nearest: str
) -> None:
    with pytest.raises(InvalidBatch) as refused:
        spec.parse({"name": "x"} | part, Settings())
    ((found, message),) = refused.value.problems
    assert (found, f"did you mean {nearest!r}?" in message) == (path, True)


def test_fields_of_one_s_own_are_for_names_of_files_and_for_engines_that_the_operator_knows() -> None:
    document = {"name": "x", "items": [{"prompt": "x", "hero": "Ann"}], "output": {"pattern": "{hero}-{item}"}}
    assert spec.parse(document, Settings()).images.bodies[0]["hero"] == "Ann"
    own = {"name": "x", "items": [{"prompt": "x", "mood": 3}]}
    assert spec.parse(own, Settings(sd_fields="mood, tone")).total == 1
    with pytest.raises(InvalidBatch, match="mood"):
        spec.parse(own, Settings())


@pytest.mark.parametrize(
    ("part", "path"),
    [
        ({"matrix": {"prompts": ["x"], "prompt": ["y"]}}, "matrix.prompt"),
        ({"items": [{"prompt": "x", "size": "64x64", "width": 32}]}, "items[0].size"),
    ],
)
def test_the_same_field_twice_is_refused(part: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidBatch) as refused:
        spec.parse({"name": "x"} | part, Settings())
    assert refused.value.problems[0][0] == path


def test_a_document_that_was_accepted_keeps_its_names() -> None:
    document = {"name": "x", "items": [{"prompt": "x", "negativ_prompt": "y"}], "output": {"pattern": "{mood}"}}
    assert spec.parse(document, Settings(), is_accepted=True).images.bodies[0]["negativ_prompt"] == "y"
