from __future__ import annotations

import pytest

from graycat.bounds.names import find_nearest, suggest
from graycat.images.fields import GENERATION_FIELDS, MEANT


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("negativ_prompt", "negative_prompt"),
        ("negative-prompt", "negative_prompt"),
        ("Negative Prompt", "negative_prompt"),
        ("negativePrompt", "negative_prompt"),
        ("promt", "prompt"),
        ("STEPS", "steps"),
        ("heigth", "height"),
        ("cfg", "cfg_scale"),
        ("sampler", "sampler_name"),
        ("refiner_switch", "refiner_switch_at"),
        ("model", "override_settings.sd_model_checkpoint"),
        ("zzz", ""),
        ("", ""),
        ("\N{CYRILLIC SMALL LETTER ZHE}" * 9, ""),
    ],
)
def test_the_nearest_name_is_found(written: str, meant: str) -> None:
    assert find_nearest(written, GENERATION_FIELDS, MEANT) == meant


def test_few_names_are_all_told() -> None:
    assert suggest("tll_s", ("ttl_s",)) == "did you mean 'ttl_s'? there are ttl_s"
    assert suggest("zzz", ("a", "b")) == "there are a, b"
    assert suggest("x", ()) == "there are none"
    assert "there are" not in suggest("zzz", GENERATION_FIELDS)


def test_a_name_of_a_million_characters_takes_no_time_to_speak_of() -> None:
    assert find_nearest("steps" * 200_000, GENERATION_FIELDS) == ""
