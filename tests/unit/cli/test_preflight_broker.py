from __future__ import annotations

import pytest

from graycat.broker import release
from graycat.broker.client import connect
from graycat.cli import preflight_broker
from graycat.errors import SettingsError
from graycat.settings import Settings
from tests.support.helpers import Valkey
from tests.support.ports import free_port

BROKER = {"broker": "graycat broker"}


@pytest.fixture
def elsewhere(mortal_broker: Valkey) -> Settings:
    """Return settings of a broker that graycat does not run itself."""
    return Settings(redis_url=mortal_broker.settings.broker_url)


def test_the_embedded_broker_is_asked_for_its_version() -> None:
    (text,), warnings = preflight_broker.describe(Settings(), BROKER)
    assert text.startswith("embedded, Valkey ")
    assert not warnings
    assert preflight_broker.describe(Settings(), {}) == (["none runs here"], [])


@pytest.mark.parametrize("code", ["exit 1", "echo hello"])
def test_an_embedded_broker_that_does_not_run_is_told(code: str, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "server"
    program.write_text(f"#!/bin/sh\n{code}\n")
    program.chmod(0o700)
    monkeypatch.setattr("graycat.cli.broker.server_program", lambda: str(program))
    with pytest.raises(SettingsError, match="the embedded broker"):
        preflight_broker.describe(Settings(), BROKER)


def test_another_broker_is_told_with_what_it_would_lose(elsewhere: Settings) -> None:
    client = connect(elsewhere)
    try:
        (text,), warnings = preflight_broker.describe(elsewhere, {})
        assert text.startswith("valkey ")
        assert [warning.partition(":")[0] for warning in warnings] == ["it has no maxmemory"]
        client.execute_command("CONFIG", "SET", "appendonly", "no")
        client.execute_command("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
        _, warnings = preflight_broker.describe(elsewhere, {})
        assert [warning.split()[0] for warning in warnings] == ["appendonly", "maxmemory-policy"]
    finally:
        client.close()


def test_an_old_broker_is_refused(elsewhere: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "OLDEST", {"valkey": (99, 0), "redis": (99, 0)})
    with pytest.raises(SettingsError, match=r"the broker is valkey \d+\.\d+\.\d+; graycat needs 99\.0 or newer"):
        preflight_broker.describe(elsewhere, {})


def test_the_clocks_are_compared(elsewhere: Settings) -> None:
    difference_s = preflight_broker.clock_difference_s(elsewhere)
    assert difference_s is not None
    assert abs(difference_s) < 1
    assert preflight_broker.clock_difference_s(Settings()) is None


def test_a_broker_that_does_not_answer_is_told() -> None:
    away = Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(SettingsError, match="does not answer"):
        preflight_broker.describe(away, {})
    assert preflight_broker.clock_difference_s(away) is None
