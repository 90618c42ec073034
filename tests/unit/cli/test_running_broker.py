from __future__ import annotations

from pathlib import Path

import pytest

from graycat.broker.client import connect
from graycat.cli import running_broker as module
from graycat.cli.broker import accepts_commands
from graycat.cli.running_broker import running_broker
from graycat.errors import SettingsError
from graycat.settings import Settings
from tests.support.helpers import Valkey


def test_a_broker_that_runs_is_used(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ChildProcess", None)
    with running_broker(valkey.settings):
        assert valkey.client.ping()
    assert valkey.client.ping()


def test_one_that_does_not_run_is_started_for_the_block(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    client = connect(settings)
    with running_broker(settings, create=True):
        client.set("graycat:a", "x")
    assert not accepts_commands(client)
    with running_broker(settings):
        assert client.get("graycat:a") == b"x"
    client.close()


def test_one_that_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "build_server_command", lambda *_: ["false"])
    with pytest.raises(SettingsError, match="the broker died"), running_broker(Settings(home=tmp_path), create=True):
        pass


def test_one_that_is_too_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "build_server_command", lambda *_: ["sleep", "60"])
    monkeypatch.setattr(module, "START_S", 0.1)
    with (
        pytest.raises(SettingsError, match="has not read its data"),
        running_broker(Settings(home=tmp_path), create=True),
    ):
        pass
