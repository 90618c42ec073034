from __future__ import annotations

import signal
from typing import Any

import pytest

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
