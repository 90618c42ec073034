from __future__ import annotations

from typing import Any

import pytest

from graycat.batches.spec.choices import find_choices, find_missing, review
from graycat.fleet.offers import Offers

LISTED = Offers({"sd@a": {"samplers": [{"name": "Euler"}], "loras": [{"name": "knights"}]}})


@pytest.mark.parametrize(
    ("part", "path"),
    [
        ({"defaults": {"sampler_name": "Oiler"}}, "defaults.sampler_name"),
        ({"items": ["a", {"prompt": "b", "sampler_name": "Oiler"}]}, "items[1].sampler_name"),
        ({"items": ["a <lora:knight:1>"]}, "items[0]"),
        ({"items": [{"prompt": "a <lora:knight:1>"}]}, "items[0].prompt"),
        ({"matrix": {"sampler_name": ["Euler", "Oiler"]}}, "matrix.sampler_name[1]"),
        ({"matrix": {"prompts": ["a", "<lora:knight:1>"]}}, "matrix.prompts[1]"),
    ],
)
def test_a_value_that_no_engine_has_is_named_with_its_path(part: dict[str, Any], path: str) -> None:
    ((found, message),) = review(part, LISTED).problems
    assert found == path
    assert "did you mean" in message
    assert find_missing(part, LISTED)[0][1] == f"{path}: {message}"


def test_a_number_is_looked_for_as_the_name_that_it_becomes() -> None:
    assert [path for path, _ in review({"defaults": {"sampler_name": 5}}, LISTED).problems] == ["defaults.sampler_name"]
    assert review({"defaults": {"sampler_name": 5}}, Offers({"sd@a": {"samplers": [{"name": "5"}]}})).problems == []


def test_what_nobody_lists_is_told_of_and_not_refused() -> None:
    document = {
        "defaults": {
            "styles": ["oil"],
            "scheduler": None,
            "override_settings": {"sd_vae": "x", "samples_format": "png"},
        },
        "items": ["a", {"sampler_name": "Euler", "scheduler": ""}],
    }
    assert review(document, LISTED).unchecked == ["defaults.styles[0]", "defaults.override_settings.sd_vae"]
    assert review(document, LISTED).problems == []


def test_a_value_of_a_thousand_items_is_named_once() -> None:
    items = [{"prompt": "x", "sampler_name": "Oiler"}] * 1000
    assert len(review({"items": items}, LISTED).problems) == 1
    assert len(list(find_choices({"items": items}))) == 1000
