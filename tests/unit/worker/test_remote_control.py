from __future__ import annotations

import signal
from typing import Any

import pytest
from celery.worker.control import Panel

from graycat.engines.base import State
from graycat.worker import remote_control
from graycat.worker import runtime as rt
from tests.support.helpers import Valkey
from tests.support.workers import worker_on


class FakeRuntime:
    paused = False
    grace_s = 10.0


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a runtime that only remembers."""
    made = FakeRuntime()
    monkeypatch.setattr(rt.process, "engine", made)
    return made


def test_a_worker_is_paused_and_resumed(runtime: Any) -> None:
    remote_control.pause_worker(None)
    assert runtime.paused
    # A newer release may say more.
    remote_control.resume_worker(None, why="all is well")
    assert not runtime.paused


@pytest.mark.parametrize(("limit_s", "grace_s"), [(None, 10.0), (3, 3.0)])
def test_a_drained_worker_takes_nothing_and_gets_a_warm_shutdown(
    runtime: Any, monkeypatch: pytest.MonkeyPatch, limit_s: float | None, grace_s: float
) -> None:
    sent: list[int] = []
    monkeypatch.setattr("os.kill", lambda _pid, number: sent.append(number))
    remote_control.drain_worker(None, limit_s)
    assert (runtime.paused, runtime.grace_s, sent) == (True, grace_s, [signal.SIGTERM])


@pytest.mark.parametrize(
    ("state", "trouble", "paused", "gate_open", "expected"),
    [
        (State.READY, "", False, True, "pong"),
        (State.DOWNLOADING, "downloading 42 %", False, False, "its engine is downloading (downloading 42 %)"),
        (State.LOADING, "", False, False, "its engine is loading"),
        (State.STUCK, "engine does not answer", False, False, "its engine is stuck (engine does not answer)"),
        (State.READY, "", True, False, "it is paused"),
        (State.READY, "", False, False, "it is about to take tasks"),
    ],
)
def test_a_ping_tells_whether_tasks_are_taken(
    broker: Valkey, state: State, trouble: str, paused: bool, gate_open: bool, expected: str
) -> None:
    with worker_on(broker, {}) as worker:
        worker.supervisor.state, worker.supervisor.trouble = state, trouble
        worker.runtime.paused, worker.runtime.gate_open = paused, gate_open
        reply = Panel.data["ping"](None)["ok"]
    assert reply == ("pong" if expected == "pong" else f"pong, but takes nothing: {expected}")


def test_a_worker_without_an_engine_answers_pings_and_can_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(rt.process, "engine", None)
    monkeypatch.setattr("os.kill", lambda _pid, number: sent.append(number))
    assert Panel.data["ping"](None) == {"ok": "pong"}
    assert remote_control.pause_worker(None) == remote_control.resume_worker(None) == remote_control.NO_ENGINE
    assert remote_control.drain_worker(None) == {"ok": "ends"}
    assert sent == [signal.SIGTERM]


@pytest.mark.parametrize(
    ("name", "arguments", "signature"),
    [("pause_worker", [], ""), ("resume_worker", [], ""), ("drain_worker", [("limit_s", float)], "[SECONDS]")],
)
def test_commands_say_what_they_take(name: str, arguments: list[Any], signature: str) -> None:
    meta = Panel.meta[name]
    assert (meta.type, meta.args or [], meta.signature or "") == ("control", arguments, signature)
    assert meta.help


def test_celery_s_own_shutdown_is_a_drain(runtime: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr("os.kill", lambda _pid, number: sent.append(number))
    # As Flower's button and ``celery control shutdown`` send it.
    Panel.data["shutdown"](None, msg="Got shutdown from remote")
    assert (runtime.paused, sent) == (True, [signal.SIGTERM])
