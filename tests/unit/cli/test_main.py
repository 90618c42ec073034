"""``graycat`` itself: its commands, and its errors."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from graycat import __version__
from graycat.cli import cli, main
from graycat.settings import Settings


def test_the_commands_are_listed() -> None:
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0
    names = ("acl", "broker", "models", "task", "tokens", "up", "web", "worker")
    assert [name for name in names if f"  {name} " not in result.output] == []


@pytest.mark.parametrize("name", ["acl", "broker", "models", "task", "tokens", "up", "web", "worker"])
def test_each_command_has_a_help_text(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0
    assert f"Usage: cli {name}" in result.output


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(cli, ["upp"])
    assert result.exit_code == 2
    assert "upp" in result.output


def test_the_version_is_printed() -> None:
    assert __version__ in CliRunner().invoke(cli, ["--version"]).output


@pytest.mark.parametrize("name", ["broker", "models list", "task list", "tokens list", "up", "web", "worker llm"])
def test_an_invalid_setting_is_one_line(name: str, monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT", "eighty")
    monkeypatch.setattr(sys, "argv", ["graycat", *name.split()])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("graycat: PORT ")


@pytest.mark.parametrize("command", ["queue pause llm", "queue resume llm"])
def test_a_broker_that_is_away_is_one_line(command: str, no_broker: Settings, monkeypatch, capsys) -> None:
    monkeypatch.setenv("GRAYCAT_HOME", str(no_broker.home))
    monkeypatch.setattr(sys, "argv", ["graycat", *command.split()])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("graycat: the broker cannot be used now")


def test_a_folder_that_cannot_be_made_is_one_line(monkeypatch, capsys, tmp_path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GRAYCAT_HOME", str(tmp_path / "file" / "home"))
    monkeypatch.setattr(sys, "argv", ["graycat", "broker"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"graycat: {tmp_path}/file")
    assert line.endswith(": Not a directory")


@pytest.mark.parametrize(("command", "status"), [("up", 0), ("status", 130), ("worker", 130)])
@pytest.mark.parametrize("moment", ["while its module is imported", "while it runs"])
def test_ctrl_c_ends_a_command_without_a_word(monkeypatch, capsys, command: str, status: int, moment: str) -> None:
    def interrupted(*_: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["graycat", command])
    module = SimpleNamespace(**{command: click.Command(command, callback=interrupted)})
    imported = interrupted if moment == "while its module is imported" else lambda _: module
    monkeypatch.setattr("graycat.cli.import_module", imported)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == status
    assert capsys.readouterr() == ("", "\n")


def test_ctrl_c_before_a_command_begins_is_the_same(monkeypatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("graycat.settings.home.keep_private", interrupted)
    for words, status in ((["graycat", "up"], 0), (["graycat"], 130)):
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == status
