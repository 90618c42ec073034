from __future__ import annotations

import re
from pathlib import Path

import pytest

from graycat.errors import SettingsError
from graycat.settings import Settings
from graycat.settings.dotenv import read_dotenv
from graycat.settings.spelling import describe_unknown


def test_a_file_with_a_mark_in_front_and_ends_of_windows_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    assert read_dotenv(path) == {}
    path.write_bytes('\ufeffPORT=1\r\n# more\r\nREDIS_PASS="a b"\r\n'.encode())
    assert read_dotenv(path) == {"PORT": "1", "REDIS_PASS": "a b"}


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"PORT=1\nREDIS_PASS=a\x00b\n", "line 2: a character in it ends the line"),
        (b"A=b\n" * 40_000, "longer than 128 KiB"),
        (b"PORT=1\nREDIS_PASS=a\xe2\x80\xa8b\n", "line 2: a character in it ends the line"),
        (b"PORT=1\n\nREDIS_PASS='a\n", "line 3: write NAME=value, and close every quotation mark"),
        (b"PORT=1\n\n\n# more\n\nPORT 8000\n", "line 6: write NAME=value"),
        (b"PORT: 8000\n", "line 1: write NAME=value"),
        (b"PORT\n", "line 1: write NAME=value"),
        (b"'MY PORT'=1\n", "line 1: write NAME=value"),
        (b"REDIS_PASS=\xff\n", "is not UTF-8"),
    ],
)
def test_a_file_that_would_lose_something_is_refused_with_its_line(tmp_path: Path, data: bytes, complaint: str) -> None:
    (tmp_path / ".env").write_bytes(data)
    with pytest.raises(SettingsError, match=complaint):
        read_dotenv(tmp_path / ".env")


def test_a_variable_that_is_no_utf_8_is_named() -> None:
    with pytest.raises(SettingsError, match="API_TOKENS is not UTF-8"):
        Settings.from_env({"API_TOKENS": b"anna\xff:secret-secret".decode(errors="surrogateescape")})


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("API_TOKENS=me:sec#ret-secret", "me:sec#ret-secret"),
        ("API_TOKENS=#secret-secret", "#secret-secret"),
        ("API_TOKENS=secret # mine", "secret"),
        ("API_TOKENS='a secret # mine'", "a secret # mine"),
        (
            "STARTUP_COMMAND=llama-server -m 'my model.gguf' --port {port}",
            "llama-server -m 'my model.gguf' --port {port}",
        ),
        ('X={"a": [1, 2]}', '{"a": [1, 2]}'),
        ("X=it's", "it's"),
        ("export X=1", "1"),
        ("X = 1", "1"),
        ("X=", ""),
    ],
)
def test_a_value_is_what_its_line_says(tmp_path: Path, line: str, value: str) -> None:
    (tmp_path / ".env").write_text(line + "\n")
    assert list(read_dotenv(tmp_path / ".env").values()) == [value]


def test_a_refused_line_is_not_quoted(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("REDIS_PASS='hunter2\n")
    with pytest.raises(SettingsError) as raised:
        read_dotenv(tmp_path / ".env")
    assert "hunter2" not in str(raised.value)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory, in an environment without settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PORT", raising=False)
    return tmp_path


def problems_of(folder: Path, text: str) -> tuple[str, ...]:
    (folder / ".env").write_text(text)
    with pytest.raises(SettingsError) as raised:
        Settings.from_env()
    return raised.value.problems


def test_a_misspelt_name_in_the_file_is_refused_with_its_line_and_the_nearest(folder: Path) -> None:
    text = "HF_TOKEN=x\n\nGRAYCAT_LLM_SLOT=2\nGRAYCAT_PROT=8001\nCUDA_VISIBLE_DEVICES=0\n"
    assert problems_of(folder, text) == (
        ".env, line 3: GRAYCAT_LLM_SLOT is no setting of graycat; did you mean GRAYCAT_LLM_SLOTS?",
        ".env, line 4: GRAYCAT_PROT is no setting of graycat; did you mean PORT?",
    )


def test_a_value_that_cannot_be_used_is_named_with_its_line(folder: Path) -> None:
    problems = problems_of(folder, "# mine\nPORT=many\nGRAYCAT_STOP_GRACE_S=-1\n")
    assert problems == (
        ".env, line 2: PORT must be a whole number, not 'many'",
        ".env, line 3: GRAYCAT_STOP_GRACE_S must be a number above zero",
    )


def test_a_line_is_not_blamed_for_what_the_environment_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "few")
    assert problems_of(folder, "PORT=8000\n") == ("PORT must be a whole number, not 'few'",)


def test_names_of_the_environment_that_are_not_ours_are_never_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("API_TOKEN", "GRAYCAT_PROT", "LLM_SLOTS", "PROT"):
        monkeypatch.setenv(name, "1")
    assert Settings.from_env().port == 8000


@pytest.mark.parametrize("example", [".env.example", "docker/.env.example"])
def test_the_names_of_the_examples_are_right(example: str) -> None:
    lines = (Path(__file__).parents[3] / example).read_text().splitlines()
    names = {match[1]: "" for line in lines if (match := re.match(r"#?([A-Z][A-Z0-9_]+)=", line))}
    assert len(names) > 10
    assert describe_unknown(names) == []
