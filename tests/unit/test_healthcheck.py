from __future__ import annotations

import subprocess
import sys

import pytest

from graycat import healthcheck
from tests.support.ports import free_port
from tests.support.servers import http_server, reply


def ask(status: int, path: str = "/health") -> str:
    answers = {f"GET {path}": reply(status, {"reason": "its engine is loading"})}
    with http_server(answers) as server:
        port = server.url.rpartition(":")[2]
        return healthcheck.ask(port + (path if path != "/health" else "")).removeprefix(port)


def test_a_process_that_serves_is_well() -> None:
    assert ask(200) == ""
    assert ask(200, "/health/web") == ""


def test_flower_is_asked_with_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with http_server({"GET /healthcheck": reply(200, {})}) as server:
        monkeypatch.setenv("FLOWER_PORT", server.url.rpartition(":")[2])
        monkeypatch.setenv("GRAYCAT_FLOWER_PASSWORD", "p" * 16)
        assert healthcheck.ask("flower") == ""
    assert server.headers[0]["authorization"] == "Basic Z3JheWNhdDpwcHBwcHBwcHBwcHBwcHBw"


@pytest.mark.parametrize("status", [500, 503, 404, 302, 401])
def test_one_that_does_not_is_named_with_its_reason(status: int) -> None:
    assert ask(status).startswith(f": {status} ")
    assert "its engine is loading" in ask(status)


def test_one_that_is_gone_makes_the_command_fail() -> None:
    command = [sys.executable, "-m", "graycat.healthcheck", str(port := free_port())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, f"{port}: no answer (ConnectionRefusedError)\n", "")


def test_all_must_be_well(capsys: pytest.CaptureFixture[str]) -> None:
    with http_server({"GET /health": reply(200, {})}) as server:
        port = server.url.rpartition(":")[2]
        assert healthcheck.main([port]) == 0
        assert healthcheck.main([port, f"{port}/elsewhere"]) == 1
    assert f"{port}/elsewhere: 404" in capsys.readouterr().out
