from __future__ import annotations

import pytest

from graycat.settings.spelling import unknown_names


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("GRAYCAT_LLM_SLOT", "GRAYCAT_LLM_SLOTS"),
        ("GRAYCAT_PORT", "PORT"),
        ("LLM_SLOTS", "GRAYCAT_LLM_SLOTS"),
        ("API_TOKEN", "API_TOKENS"),
        ("REDIS_URI", "REDIS_URL"),
        ("GRAYCAT_ZZZZZZ", ""),
    ],
)
def test_a_misspelt_setting_is_found_with_the_right_one(name: str, nearest: str) -> None:
    assert unknown_names({name: "1"}) == {name: nearest}


def test_settings_and_the_variables_of_others_are_passed_over() -> None:
    others = ("PATH", "HOME", "HOSTNAME", "LANG", "PS1", "HF_HOME", "PORTS", "REDIS_URL", "GRAYCAT_LLM_SLOTS")
    assert unknown_names(dict.fromkeys(others, "")) == {}
