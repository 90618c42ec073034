from __future__ import annotations

import pytest

from graycat.batches.spec.filenames import (
    FOLDER_NAMES,
    MAX_PART_BYTES,
    check_pattern,
    fill_pattern,
    slugify,
    strip_extension,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A knight, in armour!", "a-knight-in-armour"),
        ("../../etc/passwd", "etc-passwd"),
        ("Ünïcödé 日本", "ünïcödé-日本"),
        ("...", ""),
        ("a" * 100, "a" * 48),
        ("sd_xl.1.0", "sd_xl.1.0"),
        ("nul\0byte\n", "nul-byte"),
    ],
)
def test_a_slug_is_harmless(text: str, expected: str) -> None:
    assert slugify(text) == expected


@pytest.mark.parametrize(
    "pattern",
    ["../{item}", "/etc/{item}", "a//b", ".hidden", "{item.__class__}", "{item!r}", "{0}", "{", "a\\b", "", "x" * 301]
    + ["a/./b", "{item:>99}", "~/{item}", "{item[0]}", "a\nb", "C:{item}"],
)
def test_a_pattern_that_leads_out_of_the_folder_is_refused(pattern: str) -> None:
    assert check_pattern(pattern, None)


@pytest.mark.parametrize("pattern", ["{item}", "{prompt_slug}/{item:04}", "{name} (take {variation})", "{cfg_scale}"])
def test_a_valid_pattern_has_no_problem(pattern: str) -> None:
    assert check_pattern(pattern, None) == ""


def test_a_folder_may_use_only_its_own_names() -> None:
    assert check_pattern("{name}/{date}", FOLDER_NAMES) == ""
    assert "it may use" in check_pattern("{seed}", FOLDER_NAMES)


def test_values_stay_within_their_part() -> None:
    values = {"item": 7, "name": "../../x", "prompt_slug": "", "deep": "a/b"}
    assert fill_pattern("{item:04}-{name}/{prompt_slug}/{deep}/{missing}", values) == "0007-x/none/a-b/none"


def test_a_part_is_never_longer_than_a_file_s_name_may_be() -> None:
    assert len(fill_pattern("ü" * 150, {}).encode()) <= MAX_PART_BYTES


@pytest.mark.parametrize("pattern", ["{item}.{ext}", "{item}.png", "{item}.JPEG", "{item}"])
def test_the_end_of_a_name_follows_from_the_image(pattern: str) -> None:
    assert strip_extension(pattern) == "{item}"
