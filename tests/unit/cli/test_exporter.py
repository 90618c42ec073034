"""``graycat exporter`` without the exporter; with it: tests/integration/test_exporter.py."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from graycat.cli import cli
from graycat.cli.exporter import exporter_options
from graycat.errors import SettingsError
from graycat.settings import Settings

PASSWORD = "a-password-of-the-tests"


def test_without_the_exporter_s_environment_it_says_how_to_create_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["exporter"])
    assert isinstance(result.exception, SettingsError)
    assert "make exporter" in str(result.exception)
    assert "GRAYCAT_EXPORTER_PYTHON" in str(result.exception)


def test_the_exporter_gets_the_broker_but_no_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    started: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr("os.execve", lambda _path, argv, env: started.append((argv, env)))
    for name, value in {
        "REDIS_URL": f"redis://:{PASSWORD}@box:6379/0",
        "API_TOKENS": "game:hush-hush",
        "GRAYCAT_EXPORTER_PYTHON": sys.executable,
        "EXPORTER_PORT": "9809",
        "CE_HOST": "0.0.0.0",  # noqa: S104 (it must not get through)
    }.items():
        monkeypatch.setenv(name, value)
    assert CliRunner().invoke(cli, ["exporter"]).exit_code == 0
    ((argv, env),) = started
    # Whoever lists processes reads arguments.
    assert not [word for word in argv if PASSWORD in word]
    assert env["CE_BROKER_URL"] == f"redis://:{PASSWORD}@box:6379/0"
    assert (env["CE_HOST"], env["CE_PORT"]) == ("127.0.0.1", "9809")
    assert "API_TOKENS" not in env
    assert "hush-hush" not in "".join(env.values())


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({"home": Path("/srv/graycat")}, "redis+socket:///srv/graycat/broker/valkey.sock"),
        ({"redis_host": "box", "redis_pass": "p"}, "redis://:p@box:6379/0"),
        ({"redis_url": "rediss://u:p@box:6380/1"}, "rediss://u:p@box:6380/1?ssl_cert_reqs=required"),
    ],
)
def test_the_exporter_understands_every_broker_url(changes: dict[str, Any], url: str) -> None:
    assert exporter_options(Settings(**changes))["CE_BROKER_URL"] == url


def test_the_exporter_survives_an_outage_and_logs_no_values() -> None:
    found = exporter_options(Settings())
    assert int(found["CE_RETRY_INTERVAL"]) > 0
    assert (found["LOGURU_DIAGNOSE"], found["LOGURU_BACKTRACE"]) == ("0", "0")
    assert found["CE_QUEUES"].split(",")[0] == "llm"


def test_the_exporter_is_told_of_every_sentinel_and_its_password() -> None:
    options = exporter_options(Settings(redis_url="sentinel://:pw@one,two:1/main/2", sentinel_password="their pw"))
    assert options["CE_BROKER_URL"] == "sentinel://:pw@one:26379/2;sentinel://:pw@two:1/2"
    # It parts options at blanks.
    assert options["CE_BROKER_TRANSPORT_OPTION"].split(" ") == [
        "master_name=main",
        'sentinel_kwargs={"password":"their\\u0020pw"}',
    ]
    assert "CE_BROKER_SSL_OPTION" not in options
    over_tls = exporter_options(Settings(redis_url="sentinels://one/main"))
    assert over_tls["CE_BROKER_SSL_OPTION"] == "ssl_cert_reqs=required"
