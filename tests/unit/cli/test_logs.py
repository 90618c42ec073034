from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from graycat.cli.logs import logs


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the logs."""
    monkeypatch.setenv("GRAYCAT_HOME", str(tmp_path))
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "llm-engine-gpu0.log").write_text("".join(f"line {number}\n" for number in range(100)))
    (folder / "sd-engine.log").write_text("drawing\n")
    return folder


def test_without_a_name_the_logs_are_listed() -> None:
    assert "llm-engine-gpu0" in CliRunner().invoke(logs, []).output


def test_the_last_lines_of_an_engine_are_shown() -> None:
    assert CliRunner().invoke(logs, ["llm", "-n", "2"]).output == "line 98\nline 99\n"
    assert CliRunner().invoke(logs, ["sd-engine"]).output == "drawing\n"


def test_an_engine_that_has_printed_nothing_is_said_so() -> None:
    result = CliRunner().invoke(logs, ["cook"])
    assert result.exit_code == 2
    assert "'cook'" in result.output
