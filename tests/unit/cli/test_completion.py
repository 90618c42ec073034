"""The Tab key: what click answers a shell, and the script for bash in a real bash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from graycat.cli import cli
from graycat.cli.completion import SHELLS, VARIABLE

BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("s", ["status", "schedule", "scale-hint", "systemd"]),
        ("batch re", ["resume", "retry-failed"]),
        ("queue pause llm.", ["llm.quick", "llm.batch"]),
        ("task list --state suc", ["succeeded"]),
        ("status --w", ["--watch"]),
    ],
)
def test_commands_options_and_values_are_offered(typed: str, offered: list[str]) -> None:
    words = f"graycat {typed}"
    env = {VARIABLE: "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    result = CliRunner().invoke(cli, prog_name="graycat", env=env)
    assert result.output.splitlines() == [f"plain,{name}" for name in offered]


def test_commands_are_offered_without_an_import_of_any() -> None:
    code = "import click, sys; from graycat.cli import cli; cli.shell_complete(click.Context(cli), 's'); "
    code += "print('graycat.cli.task' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert printed.stdout == "False\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_printed_for_each_shell(shell: str) -> None:
    result = CliRunner().invoke(cli, ["completion", shell])
    assert result.exit_code == 0
    assert f"{VARIABLE}={shell}_complete" in result.output


def test_bash_completes_with_its_script() -> None:
    ask = "COMP_WORDS=(graycat queue re); COMP_CWORD=2; _graycat_completion graycat; echo ${COMPREPLY[@]}"
    env = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    words = ["bash", "-c", f'eval "$(graycat completion bash)"; {ask}']
    done = subprocess.run(words, env=env, check=True, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("resume\n", "")
