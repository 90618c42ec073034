from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from graycat.loops import readiness
from graycat.settings import engine_environment
from graycat.supervision.notifications import Notification, NotifySocket


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """Have the address read anew, before the test and behind it."""
    readiness._address.cache_clear()
    yield
    readiness._address.cache_clear()


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NotifySocket]:
    """Listen as a supervisor does."""
    listening = NotifySocket(tmp_path / "0")
    monkeypatch.setenv("NOTIFY_SOCKET", str(listening.path))
    yield listening
    listening.close()
    assert not listening.path.exists()


def test_a_supervisor_hears_what_a_process_waits_for_and_that_it_is_ready(supervisor: NotifySocket) -> None:
    assert readiness.tell_wait("text engine: starting")
    assert readiness.tell_wait("text engine: downloading a\nb", 0.25)
    assert readiness.tell_ready("4 at a time")
    assert supervisor.receive() == [
        Notification(False, "text engine: starting"),
        Notification(False, "text engine: downloading a b", 0.25),
        Notification(True, "4 at a time"),
    ]
    assert supervisor.receive() == []


def test_what_a_process_starts_does_not_speak_for_it(supervisor: NotifySocket) -> None:
    assert "NOTIFY_SOCKET" not in engine_environment()
    assert readiness.is_heard()
    assert "NOTIFY_SOCKET" not in os.environ
    assert readiness.tell_ready()
    assert len(supervisor.receive()) == 1


def test_without_a_supervisor_nobody_hears(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not readiness.is_heard()
    assert not readiness.tell_ready("told to nobody")


def test_a_supervisor_that_is_gone_is_no_error(supervisor: NotifySocket) -> None:
    supervisor.close()
    assert not readiness.tell_ready()


def test_an_abstract_address_is_that_of_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "@graycat/nobody")
    assert readiness._address() == "\0graycat/nobody"
    assert not readiness.tell_ready()
