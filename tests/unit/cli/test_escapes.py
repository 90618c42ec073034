"""Names, errors and outputs of others that a terminal would obey: no command prints them as they came."""

from __future__ import annotations

import ast
import io
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from graycat.cli import taskview
from graycat.cli.logs import logs
from graycat.cli.text import say, say_over
from graycat.supervision.output import OutputPrinter
from tests.support.escapes import EVIL, is_clean
from tests.support.helpers import eventually

COMMANDS = sorted(Path(taskview.__file__).parent.glob("*.py"))


def test_logs_of_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAYCAT_HOME", str(tmp_path))
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "llm-engine.log").write_bytes(f"one {EVIL}".replace("\r\n", "").encode() + b"\n")
    result: Result = CliRunner().invoke(logs, ["llm"])
    assert "one " in result.output
    assert is_clean(result.output)


def test_what_processes_print() -> None:
    target = io.StringIO()
    printer = OutputPrinter(["web"], target)
    read, write = os.pipe()
    printer.add("web", os.fdopen(read, "rb", buffering=0))
    os.write(write, b"one \x1b[2J\x07\n")
    os.close(write)
    eventually(lambda: "one" in target.getvalue())
    assert target.getvalue().endswith(r"web | one \u001b[2J\u0007" + "\n")


def test_a_line_that_changes() -> None:
    out = io.StringIO()
    say_over("paused: " + EVIL, out)
    assert is_clean(out.getvalue().removeprefix("\r"))


def test_a_printed_document_is_still_one(capsys: pytest.CaptureFixture[str]) -> None:
    say(json.dumps({"name": EVIL + "\x7f"}, ensure_ascii=False))
    assert json.loads(capsys.readouterr().out) == {"name": EVIL + "\x7f"}


@pytest.mark.not_covered
@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.name)
def test_a_command_prints_with_nothing_else(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
    echoes = [node.lineno for node in calls if node.attr in ("echo", "secho", "echo_via_pager")]
    assert not echoes or path.name == "text.py", f"{path.name} prints on line {echoes}: call graycat.cli.text.say"
