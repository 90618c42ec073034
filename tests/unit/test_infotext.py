from __future__ import annotations

import pytest

from graycat import infotext


@pytest.mark.parametrize(
    ("prompt", "negative"),
    [("a fox", ""), ("a fox", "rain"), ("one\ntwo: three, four", "a\nb"), ("", "rain"), ('"quoted"', "")],
)
def test_what_is_written_is_read(prompt: str, negative: str) -> None:
    pairs = {"Steps": 4, "Sampler": "Euler a", "Seed": 5, "Size": "64x128", "Note": 'a, "b": c', "Nothing": None}
    parsed = infotext.parse(infotext.write(prompt, negative, pairs))
    assert (parsed["Prompt"], parsed["Negative prompt"]) == (prompt, negative)
    expected = {"Steps": "4", "Sampler": "Euler a", "Seed": "5", "Size-1": "64", "Size-2": "128", "Note": 'a, "b": c'}
    assert {key: parsed[key] for key in expected} == expected
    assert "Nothing" not in parsed
    assert "Size" not in parsed


def test_a_line_with_few_pairs_is_part_of_the_prompt() -> None:
    assert infotext.parse("style: oil, light: soft")["Prompt"] == "style: oil, light: soft"


def test_nothing_gives_the_defaults() -> None:
    assert infotext.parse("") == {"Prompt": "", "Negative prompt": ""} | infotext.DEFAULTS


def test_a_long_line_is_read_in_no_time() -> None:
    assert infotext.parse("word " * 40_000)["Prompt"].startswith("word")
