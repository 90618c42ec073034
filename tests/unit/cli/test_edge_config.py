from __future__ import annotations

import re
import shlex
import ssl
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from graycat.cli import cli, main
from tests.support.stack import ROOT

#: What docs/edge.md tells to set, and the commands that it shows then.
DOCS = (ROOT / "docs/edge.md").read_text()
SETTINGS = re.findall(r"^    (GRAYCAT_\w+)=(\S+)$", DOCS, re.MULTILINE)
COMMANDS = re.findall(r"^    graycat (edge-config .*) > (\S+)$", DOCS, re.MULTILINE)

GOOD = {
    "GRAYCAT_PUBLIC_URL": "https://play.example:9443",
    "GRAYCAT_PROXY_PROTOCOL_PORT": "8001",
    "GRAYCAT_FORWARDED_FROM": "127.0.0.1",
}


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("env")
def test_a_configuration_is_printed_as_it_is_and_nothing_else() -> None:
    done = CliRunner().invoke(cli, ["edge-config", "nginx", "--certificate", "/a.pem", "--key", "/a.key", "--no-ipv6"])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("# graycat ")
    assert done.output.endswith("}\n")
    for words in ("listen 9443 ssl", "ssl_certificate /a.pem;", "ssl_certificate_key /a.key;"):
        assert words in done.output


@pytest.mark.usefixtures("env")
def test_what_cannot_work_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["graycat", "edge-config", "nginx"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == "graycat: nginx needs --certificate FILE\n"


def test_another_program_is_a_mistake_of_the_caller() -> None:
    done = CliRunner().invoke(cli, ["edge-config", "apache"])
    assert done.exit_code == 2
    assert "'nginx', 'haproxy', 'caddy'" in done.output


@pytest.mark.parametrize(("command", "file"), COMMANDS)
def test_the_commands_of_the_documentation_work(command: str, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SETTINGS:
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(cli, shlex.split(command))
    assert done.exit_code == 0, done.output
    assert "play.example" in done.output or file != "Caddyfile"


def test_the_documentation_shows_a_command_for_each_program() -> None:
    assert [command.split()[1] for command, _ in COMMANDS] == ["nginx", "haproxy", "caddy"]
    assert len(SETTINGS) == 3


@pytest.mark.not_covered
def test_the_page_makes_a_certificate_to_try_it_with(tmp_path: Path) -> None:
    (script,) = re.findall(r"^```\n(openssl .*?)^```$", DOCS, re.DOTALL | re.MULTILINE)
    subprocess.run(["bash", "-ec", script], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "play.pem", tmp_path / "play.key")
    context.load_cert_chain(tmp_path / "both.pem")
