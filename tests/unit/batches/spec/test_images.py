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
        ({"defaults": {"seed": -1}}, Seeds("random", 0)),
        ({"seeds": "random"}, Seeds("random", 0)),
        ({"seeds": {"policy": "per-item", "seed": 9}}, Seeds("per_item", 9)),
        ({"seeds": "fixed", "defaults": {"seed": 3}}, Seeds("fixed", 3)),
    ],
)
def test_how_seeds_are_chosen(fields: dict[str, Any], seeds: Seeds) -> None:
    assert images(items=["a"], **fields).seeds == seeds
