from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from graycat.cli.logs import LogReader, logs
from graycat.engines.process import child as process
from graycat.engines.process.child import ChildProcess


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


def test_an_engine_without_a_log_is_a_usage_error() -> None:
    result = CliRunner().invoke(logs, ["cook"])
    assert result.exit_code == 2
    assert "'cook'" in result.output


def test_the_last_lines_may_be_in_the_rotated_log(folder: Path) -> None:
    (folder / "sd-engine.log.1").write_text("".join(f"older {number}\n" for number in range(5)))
    assert CliRunner().invoke(logs, ["sd", "-n", "3"]).output == "older 3\nolder 4\ndrawing\n"


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_a_reader_gets_each_line_once_over_a_rotation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "sd-engine.log"
    child = ChildProcess(["true"], path)
    monkeypatch.setattr(process, "MAX_OUTPUT_BYTES", 10)
    reader = LogReader(path)
    assert reader.read_new() == ""
    for round_ in range(3):
        append(path, f"before {round_}\n")
        assert reader.read_new() == f"before {round_}\n"
        append(path, f"last words {round_}\n")
        child.rotate()
        append(path, f"after {round_}, and a süß\n")
        assert reader.read_new() == f"last words {round_}\nafter {round_}, and a süß\n"
    assert reader.read_new() == ""
    assert sorted(file.name for file in folder.glob("sd*")) == ["sd-engine.log", "sd-engine.log.1"]


def test_follow_prints_new_lines_also_after_a_rotation(
    folder: Path, bare_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "sd-engine.log"
    monkeypatch.setattr(process, "MAX_OUTPUT_BYTES", 10)
    command = [sys.executable, "-c", "from graycat.cli import main; main()", "logs", "sd", "-f"]
    env = bare_environment | {"GRAYCAT_HOME": str(folder.parent), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=env, cwd=folder, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == "drawing\n"
        for number in range(3):
            append(path, f"step {number}\n")
            assert following.stdout.readline() == f"step {number}\n"
            append(path, f"a line that makes it long {number}\n")
            ChildProcess(["true"], path).rotate()
            assert following.stdout.readline() == f"a line that makes it long {number}\n"
        following.terminate()
