from __future__ import annotations

import click
import pytest

from graycat.cli.text import format_fields, format_table, format_time, parse_assignment


def test_columns_are_as_wide_as_their_cells() -> None:
    assert format_table(("A", "B"), [("long", "x"), ("", "y")]) == "A     B\nlong  x\n      y"
    assert format_table(("A", "B"), []) == "A  B"


def test_fields_without_a_value_are_left_out() -> None:
    assert format_fields({"id": "a1", "worker": "", "attempt": 0}) == ["id:        a1"]


def test_a_time_is_iso_in_utc() -> None:
    assert (format_time(1_000), format_time(None)) == ("1970-01-01T00:00:01Z", "")


def test_a_value_is_json_if_it_can_be() -> None:
    texts = ("k=3", "k=true", "k=a b", "k=[1]", "k=", "k=x=y")
    assert [parse_assignment("--set", text) for text in texts] == [
        ("k", value) for value in (3, True, "a b", [1], "", "x=y")
    ]


@pytest.mark.parametrize("text", ["steps", "=3", ""])
def test_an_assignment_without_a_key_or_a_sign_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError, match="--set: .* is not KEY=VALUE"):
        parse_assignment("--set", text)
