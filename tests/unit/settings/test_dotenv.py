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
        (b"PORT=1\nREDIS_PASS=a\xe2\x80\xa8b\n", "line 2: a character in it ends the line"),
        (b"PORT=1\n\nREDIS_PASS='a\n", "line 3: No closing quotation"),
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


def test_a_misspelt_name_in_the_file_is_refused_with_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("GRAYCAT_LLM_SLOT=2\nHF_TOKEN=x\nCUDA_VISIBLE_DEVICES=0\n")
    with pytest.raises(
        SettingsError, match=r"\.env: GRAYCAT_LLM_SLOT is no setting .* did you mean GRAYCAT_LLM_SLOTS\?"
    ):
        Settings.from_env()


@pytest.mark.parametrize("example", [".env.example", "docker/.env.example"])
def test_the_names_of_the_examples_are_right(example: str) -> None:
    lines = (Path(__file__).parents[3] / example).read_text().splitlines()
    names = {match[1]: "" for line in lines if (match := re.match(r"#?([A-Z][A-Z0-9_]+)=", line))}
    assert len(names) > 10
    assert describe_unknown(names) == []
