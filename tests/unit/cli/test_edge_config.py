from __future__ import annotations

import pytest
from click.testing import CliRunner

from graycat.cli import cli, main

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
