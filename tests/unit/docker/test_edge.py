"""The proxy of docker/edge: its compose file beside the stack's, and the commands of its README."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from graycat.cli import cli
from graycat.edge.config import HAPROXY
from tests.support.boxes import certificates
from tests.support.composed import config, is_pinned, required
from tests.support.edges import command_of
from tests.support.helpers import run
from tests.support.stack import ROOT
from tests.unit.docker.test_compose import ENV, FOLDER

FILES = ("compose.yml", "edge/compose.yml")
OWN = {"GRAYCAT_PUBLIC_URL": "https://play.example", "EDGE_CERTIFICATE": "/etc/ssl/play.pem"}
README = (ROOT / "docker/edge/README.md").read_text()


@pytest.fixture(scope="module")
def stack() -> dict[str, Any]:
    """Return both files together, as Compose reads them."""
    done = config(FOLDER, ENV | OWN, *FILES)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = yaml.safe_load(done.stdout)
    return found


def test_without_an_address_or_a_certificate_it_does_not_start() -> None:
    assert required(FOLDER / "edge") == set(OWN)


def test_the_proxy_is_closed_and_graycat_believes_it_alone(stack: dict[str, Any]) -> None:
    edge, web = stack["services"]["edge"], stack["services"]["web"]
    assert is_pinned(edge["image"])
    assert edge["logging"] == web["logging"]
    assert (edge["read_only"], edge["cap_drop"]) == (True, ["ALL"])
    address = edge["networks"]["edge"]["ipv4_address"]
    assert web["environment"]["GRAYCAT_FORWARDED_FROM"] == address
    assert web["environment"]["GRAYCAT_TRUSTED_ADDRESSES"].split(",")[-1] == address
    assert set(web["networks"]) == {"graycat", "edge"}
    assert set(edge["networks"]) == {"edge"}


def test_the_readme_s_command_prints_what_haproxy_takes(
    stack: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (command,) = re.findall(r"-T web \\\n\s+(.*) > edge/haproxy.cfg", README)
    for name in ("HOST", "PORT"):
        monkeypatch.delenv(name, raising=False)
    # What the image sets.
    monkeypatch.setenv("HOST", "0.0.0.0")  # noqa: S104
    for name, value in stack["services"]["web"]["environment"].items():
        if name.startswith("GRAYCAT_"):
            monkeypatch.setenv(name, str(value))
    done = CliRunner().invoke(cli, shlex.split(command))
    assert done.exit_code == 0, done.output
    assert "server web1 web:8001 send-proxy-v2" in done.output
    _, pem = certificates(tmp_path / "certificates")
    (tmp_path / "haproxy.cfg").write_text(done.output.replace("/etc/edge.pem", str(pem)))
    checked = run(command_of(HAPROXY, tmp_path / "haproxy.cfg", check=True))
    assert checked.returncode == 0, checked.stderr
