from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from graycat.cli.batchfile import load_items, load_spec


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", 'name = "x"\nitems = "list.csv"'),
        ("a.yaml", "name: x\nitems: list.csv"),
        ("a.json", '{"name": "x", "items": "list.csv"}'),
    ],
)
def test_items_may_be_in_a_file_of_the_same_folder(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "list.csv").write_text("prompt,steps,size\na knight,4,64x64\na thief,,\n")
    assert load_spec(str(tmp_path / name)) == {
        "name": "x",
        "items": [{"prompt": "a knight", "steps": 4, "size": "64x64"}, {"prompt": "a thief"}],
    }


def test_items_come_from_csv_json_lines_and_text(tmp_path: Path) -> None:
    files = {
        "a.jsonl": '{"prompt": "a"}\n\n"b"\n',
        "a.txt": "a\n\n b \n",
        "a.csv": '\ufeffprompt,cfg_scale\n"one, two",7.5\n1984,\n',
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert load_items(tmp_path / "a.jsonl") == [{"prompt": "a"}, "b"]
    assert load_items(tmp_path / "a.txt") == ["a", "b"]
    # A prompt is a text, whatever it looks like.
    assert load_items(tmp_path / "a.csv") == [{"prompt": "one, two", "cfg_scale": 7.5}, {"prompt": "1984"}]


@pytest.mark.parametrize(
    ("name", "text"), [("a.csv", "prompt\na,b\n"), ("a.jsonl", "{"), ("a.xlsx", ""), ("no.txt", None)]
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, text: str | None) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(click.UsageError, match=name):
        load_items(tmp_path / name)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.txt"])
def test_a_file_of_items_in_utf_16_is_called_that(tmp_path: Path, name: str, encoding: str) -> None:
    (tmp_path / name).write_bytes('\ufeff"prompt"\n"a"\n'.encode(encoding))
    with pytest.raises(click.UsageError, match=f"{name}: it is in UTF-16; save it as UTF-8"):
        load_items(tmp_path / name)


@pytest.mark.parametrize(("name", "data"), [("a.toml", b"["), ("a.yaml", b"- a"), ("a.json", b"\xff"), ("a.ini", b"")])
def test_a_spec_that_cannot_be_read_is_named(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(click.UsageError, match=name):
        load_spec(str(tmp_path / name))


def test_defaults_are_set_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('name = "x"\ndefaults = {steps = 3}')
    found = load_spec(str(tmp_path / "a.toml"), ("steps=9", "sampler_name=Euler a"))
    assert found["defaults"] == {"steps": 9, "sampler_name": "Euler a"}
    with pytest.raises(click.UsageError, match="KEY=VALUE"):
        load_spec(str(tmp_path / "a.toml"), ("steps",))


def test_half_a_character_in_an_items_file_is_a_usage_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": "b", "styles": ["\\ud83d"]}\n')
    with pytest.raises(click.UsageError, match=r"a\.jsonl: line 2: item\.styles\[0\] holds half a character"):
        load_items(path)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "prompt,steps\na,1\nb\0c,2\n", "line 3: item.prompt holds"),
        ("a.tsv", "prompt\tsteps\na\0\t1\n", "line 2: item.prompt holds"),
        ("a.jsonl", '"a"\n{"prompt": "b\\u0000"}\n', "line 2: item.prompt holds"),
        ("a.txt", "a\n\nb\0c\n", "line 3: holds"),
    ],
)
def test_nul_in_an_items_file_is_a_usage_error(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(click.UsageError, match=re.escape(f"{name}: {words} the character U+0000 (NUL)")):
        load_items(tmp_path / name)


def test_a_cell_in_quotes_keeps_its_line_breaks(tmp_path: Path) -> None:
    files = {
        "a.csv": 'prompt,steps\r\n"a knight,\r\nby night\n\nfog",4\r\n"b\u2028c\x0bd\x85e",5\r\n',
        "a.tsv": 'prompt\tsteps\n"a knight,\n""by"" night"\t4\nb\u2028c\x0bd\x85e\t5\n',
        "a.jsonl": '{"prompt": "b\u2028c\x85e"}\r\n\n"x"',
        "a.txt": "b\u2028c\x0bd\x85e\r\ntwo\rthree",
    }
    for name, text in files.items():
        (tmp_path / name).write_bytes(text.encode())
    rows = load_items(tmp_path / "a.csv")
    assert rows == [
        {"prompt": "a knight,\r\nby night\n\nfog", "steps": 4},
        {"prompt": "b\u2028c\x0bd\x85e", "steps": 5},
    ]
    rows = load_items(tmp_path / "a.tsv")
    assert rows == [{"prompt": 'a knight,\n"by" night', "steps": 4}, {"prompt": "b\u2028c\x0bd\x85e", "steps": 5}]
    assert load_items(tmp_path / "a.jsonl") == [{"prompt": "b\u2028c\x85e"}, "x"]
    assert load_items(tmp_path / "a.txt") == ["b\u2028c\x0bd\x85e", "two", "three"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("prompt,prompt\na,b\n", "the column 'prompt' 2 times"),
        ("prompt,\na,b\n", "the column '' 1 times"),
        ('prompt\n"a\n\nb" c\n', "line 4: "),
        ('prompt\n"a\n', "line 2: a cell in quotes has no end"),
        ("prompt;seed\na;1\n", "separated by semicolons"),
        ("", "has no rows"),
        ("prompt,seed\n", "has no rows"),
        ("prompt,steps\na,1\nb\n", "line 3: has more or fewer fields"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(click.UsageError, match=complaint):
        load_items(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("name", "data", "complaint"),
    [
        ("a.csv", b"prompt\ncaf\xe9\n", "is not in UTF-8; save it as UTF-8"),
        ("a.txt", b"caf\xe9\n", "is not in UTF-8; save it as UTF-8"),
        ("a.jsonl", b'{"prompt": "a"}\n\n{"prompt": b}\n', "line 3: is no JSON (Expecting value, column 12)"),
        ("a.jsonl", b"\n", "has no items"),
        ("a.jsonl", b'{"seed": ' + b"9" * 5000 + b"}", "line 1: 'seed' has 5000 digits"),
        ("a.jsonl", b'{"seed": 1, "seed": 2}', "line 1: an object has the field 'seed' twice"),
        ("a.txt", b" \n", "has no items"),
        ("a.tsv", b"a portrait\n", "has no rows"),
    ],
)
def test_an_items_file_that_cannot_be_read_is_told_in_plain_words(
    tmp_path: Path, name: str, data: bytes, complaint: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(click.UsageError, match=re.escape(complaint)):
        load_items(tmp_path / name)


def test_a_file_that_is_not_there_is_named_once(tmp_path: Path) -> None:
    for load in (load_items, lambda path: load_spec(str(path))):
        path = tmp_path / ("a.csv" if load is load_items else "a.toml")
        with pytest.raises(click.UsageError) as caught:
            load(path)
        assert str(caught.value) == f"{path}: No such file or directory"
