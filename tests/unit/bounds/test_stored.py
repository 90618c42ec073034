from __future__ import annotations

import sys

import pytest

from graycat.bounds.stored import parse_json, write_json


@pytest.mark.parametrize("text", ['{"a": [1]}', b'{"a": [1]}'])
def test_json_is_read(text: str | bytes) -> None:
    assert parse_json(text) == {"a": [1]}


@pytest.mark.parametrize(
    ("text", "message"),
    [("{half", "property name"), (b"\xff", "utf-8"), ("[" * (sys.getrecursionlimit() + 10), "too deeply")],
)
def test_all_else_is_a_value_error(text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text)


@pytest.mark.parametrize("text", ["Zoë 😀", "half \ud83d", "\0"])
def test_what_was_read_is_written_again(text: str) -> None:
    assert parse_json(write_json({"a": [text]})) == {"a": [text]}


def test_halves_that_come_in_two_pieces_are_one_character() -> None:
    assert parse_json(write_json("\ud83d" + "\ude00")) == "😀"
