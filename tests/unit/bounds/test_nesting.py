from __future__ import annotations

import json
from typing import Any

import pytest

from graycat.bounds.nesting import _pick_brackets, check_depth, check_text_depth
from graycat.errors import TooComplex


def nested(levels: int, inner: Any = 1) -> Any:
    """Return a value with so many levels, objects and arrays in turn."""
    value = inner
    for level in range(levels):
        value = {"a": value} if level % 2 else [value]
    return value


def check(value: Any, max_depth: int) -> None:
    check_depth(value, json.dumps(value).encode(), max_depth)


@pytest.mark.parametrize("inner", [1, "x", None, [], {}, "[[[[[[[["], ids=str)
def test_as_many_levels_as_allowed_pass_and_one_more_does_not(inner: Any) -> None:
    levels = 5 - isinstance(inner, (list, dict))
    check(nested(levels, inner), 5)
    with pytest.raises(TooComplex, match="more than 5 levels .*GRAYCAT_MAX_JSON_DEPTH") as caught:
        check(nested(levels + 1, inner), 5)
    assert (caught.value.status, caught.value.type) == (400, "too_complex")


def test_many_brackets_beside_each_other_are_no_depth() -> None:
    check([{"a": [1, 2]}, {"b": []}] * 1000, 3)


@pytest.mark.parametrize("inner", ["x", "[[[["])
def test_the_field_that_is_too_deep_is_named(inner: str) -> None:
    with pytest.raises(TooComplex, match="^'stop' is nested more than 5 levels deep"):
        check({"prompt": nested(4, inner), "stop": nested(5, inner), "n": [1]}, 5)


def test_a_deep_place_is_found_among_many_flat_ones() -> None:
    with pytest.raises(TooComplex):
        check([[]] * 50 + [nested(10)] + [{}] * 50, 10)


#: Texts that could be taken for the end of a string, or for levels.
TRAPS = (
    "",
    "\\",
    '"',
    '\\"',
    "\\\\",
    "\n",
    "/",
    "ü\U0001f600",
    "x[",
    "]}",
    '"[',
    "{\\",
    '["',
    '\\"]',
    "\\n{",
    ",",
    ": ",
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32-be"])
@pytest.mark.parametrize("first", TRAPS)
def test_what_strings_hold_is_no_level(first: str, encoding: str) -> None:
    for second in TRAPS:
        check_levels(first, second, encoding)


def check_levels(first: str, second: str, encoding: str) -> None:
    flat = [{first: second}, {second: [first, second, first]}, first, [], second]
    for ensure_ascii in (True, False):
        for value, levels in ((flat, 3), (nested(8, flat), 11)):
            raw = json.dumps(value, ensure_ascii=ensure_ascii, separators=(",", ":")).encode(encoding)
            check_depth(value, raw, levels)
            with pytest.raises(TooComplex):
                check_depth(value, raw, levels - 1)


def test_a_body_whose_strings_hold_no_brackets_is_not_walked() -> None:
    value = [{"a": 'say "x"\n', "b": ["\\", ""]}] * 100
    assert _pick_brackets(json.dumps(value).encode()) == b"{" + b"{{}}" * 100 + b"}"
    assert _pick_brackets(b'["["]') is None


@pytest.mark.parametrize(
    "text", ["", "no JSON", "[{}]" * 100, '{"a": "[[[[[[["}', '{"a": "\\"[[[[[["}', "]]]][[[[]]]]"]
)
def test_a_flat_text_passes(text: str) -> None:
    check_text_depth(text, 5)


def test_a_text_with_deep_json_is_refused() -> None:
    check_text_depth(json.dumps(nested(5)), 5)
    with pytest.raises(TooComplex):
        check_text_depth(json.dumps(nested(6)), 5)
