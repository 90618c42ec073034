"""Files that cannot be read as the documents they should be: one line of plain words, whatever the format."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from graycat.bounds.documents import parse, read_text_file

PYTHON = re.compile(r"Expecting|codec|sys\.|Errno|literal|NoneType|recursion|unicode string|\n")

TEXTS = [
    ("json", "", "the text is empty; send JSON"),
    ("json", '{"a": }', "line 1, column 7: no JSON value begins there"),
    ("json", '{"a": ' + "9" * 5000 + "}", "'a' has 5000 digits"),
    ("json", "[" * 100_000, "nested too deeply"),
    ("json", '{"\ud83d', "column 2: the string that begins there has no end"),
    ("toml", "a = \nb = 1", "at line 1, column 5"),
    ("toml", "a = " + "9" * 5000, "a number of more than 4300 digits"),
    ("toml", "a = " + "[" * 5000, "nested too deeply"),
    ("yaml", "a:\n\t- b", "line 2, column 1"),
    ("yaml", "a: *b", "line 1, column 4: found undefined alias 'b'"),
    ("yaml", "a: " + "9" * 5000, "a number of more than 4300 digits"),
    ("yaml", "[" * 5000, "nested too deeply"),
    ("yaml", "a: \0", "unacceptable character"),
    ("yaml", "a: 2026-13-45", "a date that does not exist"),
    *[("yaml", f"a: !!{tag} x", "not what its tag (like !!int) says") for tag in ("int", "bool", "float", "timestamp")],
    ("yaml", 'a: !!int ""', "not what its tag"),
    ("yaml", "a: !!binary \u00e9", "line 1, column 4: the value is not what its tag says"),
]


@pytest.mark.parametrize(("format", "text", "expected"), TEXTS, ids=lambda value: ascii(value)[:30])
def test_what_is_wrong_is_told_in_one_line_of_plain_words(format: str, text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=".") as raised:
        parse(text, format)
    assert expected in str(raised.value)
    assert not PYTHON.search(str(raised.value)), str(raised.value)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"name": "x"}')
    assert parse(read_text_file(tmp_path / "a.json"), "json") == {"name": "x"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("latin.json", "byte 4 is not in UTF-8; save it as UTF-8"),
        ("absent.json", "No such file or directory"),
        (".", "Is a directory"),
        ("n" * 300, "File name too long"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_in_plain_words(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / "latin.json").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=".") as raised:
        read_text_file(tmp_path / name)
    assert str(raised.value) == expected


def test_a_field_of_json_that_is_there_twice_is_refused_at_any_depth() -> None:
    with pytest.raises(ValueError, match="the field 'seed' twice"):
        parse('{"items": [{"seed": 1, "seed": 1}]}', "json")


@pytest.mark.parametrize(
    ("text", "line", "name"),
    [
        ("name: a\nitems: [x]\nname: b\n", 3, "name"),
        ('defaults:\n  steps: 4\n  "steps": 4\n', 3, "steps"),
        ("items:\n- prompt: a\n- {prompt: b,\n   prompt: c}\n", 4, "prompt"),
        ('1: a\n"1": b\n', 2, "1"),
        ('{"name": "a", "name": "b"}', 1, "name"),
    ],
)
def test_a_field_twice_in_yaml_is_refused_with_its_line(text: str, line: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"^line {line}: an object has the field '{name}' twice, "):
        parse(text, "yaml")


def test_a_field_of_yaml_may_override_one_that_is_merged_in() -> None:
    text = "a: &a {steps: 1, cfg: 2}\nb: &b\n  <<: *a\n  steps: 3\nc:\n  <<: *b\n  steps: 4\n"
    assert parse(text, "yaml")["c"] == {"steps": 4, "cfg": 2}
    assert parse(text, "yaml")["b"] == {"steps": 3, "cfg": 2}
