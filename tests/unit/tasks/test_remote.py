from __future__ import annotations

import signal
from typing import Any

import pytest
from celery.worker.control import Panel

from graycat.tasks import remote
from graycat.tasks import runtime as rt


class FakeRuntime:
    paused = False
    grace_s = 10.0


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a runtime that only remembers."""
    made = FakeRuntime()
    monkeypatch.setattr(rt, "current", lambda: made)
    return made


def test_a_worker_is_paused_and_resumed(runtime: Any) -> None:
    remote.pause_worker(None)
    assert runtime.paused
    remote.resume_worker(None)
    assert not runtime.paused


@pytest.mark.parametrize(("limit_s", "grace_s"), [(None, 10.0), (3, 3.0)])
def test_a_drained_worker_takes_nothing_and_ends_as_when_it_is_told_to_stop(
    runtime: Any, monkeypatch: pytest.MonkeyPatch, limit_s: float | None, grace_s: float
) -> None:
    sent: list[int] = []
    monkeypatch.setattr("os.kill", lambda _pid, number: sent.append(number))
    remote.drain_worker(None, limit_s)
    assert (runtime.paused, runtime.grace_s, sent) == (True, grace_s, [signal.SIGTERM])


def test_celery_s_own_shutdown_is_a_drain(runtime: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr("os.kill", lambda _pid, number: sent.append(number))
    # As Flower's button and ``celery control shutdown`` send it.
    Panel.data["shutdown"](None, msg="Got shutdown from remote")
    assert (runtime.paused, sent) == (True, [signal.SIGTERM])


def test_a_worker_without_an_engine_drains_and_cannot_be_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rt, "_installed", [])
    sent: list[int] = []
    monkeypatch.setattr("os.kill", lambda _pid, number: sent.append(number))
    for command in (remote.pause_worker, remote.resume_worker):
        assert "error" in command(None)
    assert "ok" in remote.drain_worker(None, 3)
    assert sent == [signal.SIGTERM]
