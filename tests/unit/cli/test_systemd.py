from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from graycat.cli import cli
from graycat.cli import systemd as command
from graycat.errors import SettingsError
from graycat.supervision.systemd import Layout
from tests.support.helpers import ROOT, free_port

GRAYCAT = Path(sys.executable).parent / "graycat"


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no .env file read."""
    monkeypatch.chdir(tmp_path)


def run(*options: str, **env: str) -> Result:
    return CliRunner().invoke(cli, ["systemd", *options], env=env)


def test_the_units_of_this_installation_are_printed() -> None:
    result = run(GRAYCAT_STOP_GRACE_S="120")
    assert result.exit_code == 0, result.output
    assert f"ExecStart={GRAYCAT} worker llm\n" in result.output
    assert "User=graycat\n" in result.output
    assert "TimeoutStopSec=170\n" in result.output
    assert "# graycat.target\n[Unit]\n" not in result.output  # its first line is a comment
    assert "# graycat.target\n# All processes" in result.output


def test_there_is_one_for_each_process_that_the_settings_run(tmp_path: Path) -> None:
    result = run("--output", "units", REDIS_URL="redis://elsewhere", RUN_SD="false", GRAYCAT_FLOWER="false")
    assert result.exit_code == 0, result.output
    names = {path.name for path in (tmp_path / "units").iterdir()}
    assert names == {
        "graycat.target",
        *(f"graycat-{name}.service" for name in ("web", "llm", "quick", "control", "beat")),
    }
    assert (tmp_path / "units" / "graycat.target").stat().st_mode & 0o777 == 0o644
    assert "systemctl enable --now graycat.target" in result.output


def test_those_of_a_user_need_no_root(tmp_path: Path) -> None:
    result = run("--user", "--home", "state", "--env", "env", "--output", "units", REDIS_URL="redis://elsewhere")
    assert "systemctl --user enable --now graycat.target" in result.output
    text = (tmp_path / "units" / "graycat-web.service").read_text()
    assert f"GRAYCAT_HOME={tmp_path}/state " in text
    assert f"EnvironmentFile=-{tmp_path}/env\n" in text
    assert "User=" not in text
    assert run("--user", "--as", "somebody").exit_code == 2


def test_another_account_and_folder(tmp_path: Path) -> None:
    result = run("--as", "gpu", "--home", "/srv/gc", "--output", "units", GRAYCAT_BATCH_DIR="/srv/images")
    text = (tmp_path / "units" / "graycat-control.service").read_text()
    assert "User=gpu\nGroup=gpu\n" in text
    assert "ReadWritePaths=-/srv/gc -/srv/images\n" in text
    assert "install -d -m 700 -o gpu -g gpu /srv/gc" in result.output


def test_a_home_whose_socket_would_lie_in_each_unit_s_own_tmp_is_refused() -> None:
    result = run("--home", "/srv/" + "x" * 100)
    assert isinstance(result.exception, SettingsError)
    assert "too long for the socket" in str(result.exception)
    assert run("--home", "/srv/" + "x" * 100, REDIS_URL="redis://elsewhere").exit_code == 0


def test_a_link_in_the_folder_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    (tmp_path / "units").mkdir()
    (tmp_path / "units" / "graycat-web.service").symlink_to(tmp_path / "mine")
    assert run("--output", "units").exit_code == 0
    assert (tmp_path / "mine").read_text() == "kept"
    assert "ExecStart=" in (tmp_path / "units" / "graycat-web.service").read_text()
    assert run("--output", "units").exit_code == 0
    assert [path.name for path in (tmp_path / "units").iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("output", ["a file", "a file/units", "folder"])
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, output: str) -> None:
    (tmp_path / "a file").touch()
    (tmp_path / "folder" / "graycat.target").mkdir(parents=True)
    result = run("--output", output)
    assert (result.exit_code, "cannot be written" in result.output) == (1, True)
    assert list((tmp_path / "folder").iterdir()) == [tmp_path / "folder" / "graycat.target"]


def test_a_path_with_a_blank_is_one_word_of_the_next_steps() -> None:
    assert "--home-dir '/srv/a b' " in command.next_steps(Layout(home=Path("/srv/a b")))


def test_a_user_without_an_account_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 54321)
    result = run("--user")
    assert isinstance(result.exception, SettingsError)
    assert "54321 has no account" in str(result.exception)


def test_a_place_that_the_account_cannot_enter_is_told(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    assert command.closed_folder(Layout(program=closed / "bin" / "graycat", user="graycat")) == closed
    assert command.closed_folder(Layout(program=closed / "bin" / "graycat", user=None)) is None


def test_it_is_said_that_python_may_be_what_lies_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "closed_folder", lambda layout: Path("/root"))
    output = run("--output", str(tmp_path)).output
    assert "the user graycat cannot enter /root, where graycat or the Python that runs it lies" in output


@pytest.mark.parametrize(
    ("address", "found"), [("/srv/a", ["/srv/a"]), ("file:///srv/b", ["/srv/b"]), ("s3://bucket/c", []), ("", [])]
)
def test_folders_of_this_machine_are_told_from_buckets(address: str, found: list[str]) -> None:
    assert command.local_folders(address) == [Path(path) for path in found]


def documented(page: str) -> list[str]:
    """Return the commands of the page that begin with graycat's name, without its folder."""
    lines = (ROOT / "docs" / page).read_text().replace("/opt/graycat-env/bin/", "").splitlines()
    return [line for line in lines if line.startswith("graycat systemd ")]


@pytest.mark.parametrize("command_line", documented("install.md"))
def test_a_command_of_the_page_makes_the_units(command_line: str, tmp_path: Path) -> None:
    words = command_line.replace("/etc/systemd/system", str(tmp_path / "units")).split()
    assert run(*words[2:]).exit_code == 0
    assert (tmp_path / "units" / "graycat.target").is_file()


def test_the_page_has_every_option_of_the_command() -> None:
    page = (ROOT / "docs" / "install.md").read_text()
    for option in command.systemd.params:
        assert f"`{option.opts[0]}" in page or f", `{option.opts[0]}" in page
    assert documented("install.md")


@pytest.mark.not_covered
def test_a_command_of_the_operator_has_the_settings_of_the_units(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "install.md").read_text()
    blocks = re.findall(r"^```\n(.*?)^```$", page.partition("\n## With systemd\n")[2], re.DOTALL | re.MULTILINE)
    script = "".join(blocks[1:3])
    for old, new in (
        ("/etc/graycat", f"{tmp_path}/etc"),
        ("/var/lib/graycat", f"{tmp_path}/state"),
        ("/opt/graycat-env/bin", str(Path(sys.executable).parent)),
        ("root:graycat", f"{os.getuid()}:{os.getgid()}"),
        ("runuser -u graycat -- ", ""),
    ):
        assert old in script
        script = script.replace(old, new)
    (tmp_path / "state").mkdir()
    settings, command_line = script.rstrip("\n").rsplit("\n", 1)
    port = free_port()
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    subprocess.run(["bash", "-ec", settings], check=True, env=env, timeout=60)
    (tmp_path / "etc" / "env").write_text(f"PORT={port}\nAPI_TOKENS=tests:{'x' * 40}\n")
    done = subprocess.run(
        ["bash", "-c", command_line], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert f"http://127.0.0.1:{port} cannot be reached" in done.stderr
