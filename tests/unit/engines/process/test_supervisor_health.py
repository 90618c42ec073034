"""Engines that are stuck, busy, locked or away, and those that fail again and again."""

from __future__ import annotations

import pytest

from graycat.engines.base import Health, State
from graycat.engines.process.supervisor import (
    CRASH_LOOP_FAILURES,
    FIRST_BACKOFF_S,
    HEALTH_INTERVAL_S,
    REFUSED_KILL_AFTER_S,
    RESET_FAILURES_AFTER_S,
    START_PATIENCE_S,
    TROUBLES,
    UNHEALTHY_KILL_AFTER_S,
)
from graycat.errors import EngineUnauthorized
from tests.unit.engines.process.test_supervisor import Scene

LATER_S = HEALTH_INTERVAL_S + 0.1


@pytest.fixture
def scene() -> Scene:
    return Scene()


def fail(scene: Scene) -> None:
    """Let the engine's process die, and see it noticed."""
    scene.child.running = False
    assert scene.step() is State.STOPPED


def test_an_unresponsive_engine_is_stuck_and_takes_no_work(scene: Scene) -> None:
    scene.raise_up()
    scene.engine.well, scene.engine.ill = False, Health.UNRESPONSIVE
    assert scene.step(LATER_S) is State.STUCK
    assert (scene.supervisor.ready.is_set(), scene.supervisor.trouble) == (False, TROUBLES[Health.UNRESPONSIVE])
    scene.engine.well = True
    assert scene.step() is State.READY
    assert (scene.supervisor.trouble, scene.child.starts, scene.supervisor.failures) == ("", 1, 0)


def silence(scene: Scene) -> None:
    """Let a ready engine answer nothing any more."""
    scene.raise_up()
    scene.engine.well, scene.engine.ill = False, Health.UNRESPONSIVE


def test_an_engine_that_stays_silent_is_started_anew_after_a_long_time(scene: Scene) -> None:
    silence(scene)
    silent_since = scene.now
    while scene.step(LATER_S) is State.STUCK:
        assert scene.child.stops == 0
    assert scene.now - silent_since == pytest.approx(scene.supervisor.kill_after_s, abs=LATER_S)
    assert (scene.supervisor.state, scene.child.stops) == (State.STOPPED, 1)
    assert scene.supervisor.last_failure == TROUBLES[Health.UNRESPONSIVE]


@pytest.mark.parametrize("ill", [Health.UNRESPONSIVE, Health.UNREACHABLE])
def test_an_engine_that_sends_anything_in_any_call_is_never_stopped(scene: Scene, ill: Health) -> None:
    silence(scene)
    scene.engine.ill = ill
    scene.supervisor.heard_at = lambda: scene.now - 5
    states = {scene.step(LATER_S) for _ in range(200)}
    assert not states & {State.READY, State.STOPPED}
    assert scene.child.stops == 0
    scene.engine.well = True
    assert scene.step() is State.READY
    # When the last call has ended, silence counts from there.
    silent_since = scene.now
    scene.supervisor.heard_at = lambda: silent_since
    scene.engine.well = False
    while scene.step(LATER_S) is not State.STOPPED:
        assert scene.now - silent_since < scene.supervisor.kill_after_s + LATER_S
    assert scene.child.stops == 1


def test_an_engine_that_answers_slowly_is_stuck_and_not_stopped(scene: Scene) -> None:
    silence(scene)
    scene.engine.slow = True
    assert {scene.step(LATER_S) for _ in range(200)} == {State.STUCK}
    scene.engine.slow = False
    while scene.step(LATER_S) is State.STUCK:
        assert scene.now < 5000
    assert scene.supervisor.state is State.STOPPED


@pytest.mark.parametrize(
    ("ill", "trouble"), [(Health.LOADING, ""), (Health.UNAUTHORIZED, TROUBLES[Health.UNAUTHORIZED])]
)
def test_an_engine_that_answers_but_is_not_ready_takes_no_work_and_gets_long_to_come_back(
    scene: Scene, ill: Health, trouble: str
) -> None:
    scene.raise_up()
    scene.engine.well, scene.engine.ill = False, ill
    scene.supervisor.busy = lambda: False
    assert (scene.step(LATER_S), scene.supervisor.trouble) == (State.LOADING, trouble)
    assert scene.step(UNHEALTHY_KILL_AFTER_S - 2 * LATER_S) is State.LOADING
    scene.supervisor.busy = lambda: True
    assert scene.step(UNHEALTHY_KILL_AFTER_S) is State.LOADING
    scene.supervisor.busy = lambda: False
    assert scene.step() is State.STOPPED
    assert scene.child.stops == 1


def test_a_process_that_ends_is_noticed_at_once_however_patient_the_probes_are(scene: Scene) -> None:
    silence(scene)
    assert scene.step(LATER_S) is State.STUCK
    fail(scene)
    assert scene.supervisor.last_failure == "engine process died (killed by SIGKILL)"


@pytest.mark.parametrize(
    ("busy_timeout_s", "busy", "states"),
    [
        (900.0, True, {State.READY}),
        (900.0, False, {State.STUCK, State.STOPPED, State.LOADING}),
        (0.0, True, {State.STUCK, State.STOPPED, State.LOADING}),
    ],
)
def test_a_question_that_waits_behind_a_render_is_no_outage(
    scene: Scene, busy_timeout_s: float, busy: bool, states: set[State]
) -> None:
    scene.engine.busy_timeout_s = busy_timeout_s
    scene.supervisor.busy = lambda: busy
    scene.raise_up()
    scene.engine.well, scene.engine.ill = False, Health.UNRESPONSIVE
    assert {scene.step(LATER_S) for _ in range(60)} == states


def test_patience_with_a_render_has_an_end(scene: Scene) -> None:
    scene.engine.busy_timeout_s = 60.0
    scene.raise_up()
    scene.engine.well, scene.engine.ill = False, Health.UNRESPONSIVE
    began = scene.now
    while scene.step(LATER_S) is State.READY:
        assert scene.now < 2000
    assert scene.now - began == pytest.approx(60.0, abs=LATER_S)
    # It was silent for long enough already.
    assert scene.supervisor.state is State.STOPPED


def test_an_engine_that_is_unreachable_while_it_renders_has_failed(scene: Scene) -> None:
    scene.engine.busy_timeout_s = 900.0
    scene.raise_up()
    scene.engine.well, scene.engine.ill = False, Health.UNREACHABLE
    assert scene.step(LATER_S) is State.LOADING
    assert scene.step(REFUSED_KILL_AFTER_S) is State.STOPPED


@pytest.mark.parametrize("adopted", [False, True])
def test_a_wrong_key_is_reported_until_it_is_right(adopted: bool) -> None:
    scene = Scene(adopted=adopted)
    scene.engine.ill = Health.UNAUTHORIZED
    states = {scene.step() for _ in range(5)}
    assert (states, scene.supervisor.trouble) == ({State.LOADING}, TROUBLES[Health.UNAUTHORIZED])
    scene.raise_up()
    assert scene.supervisor.trouble == ""


def test_a_key_that_only_the_properties_require_is_reported_too(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise EngineUnauthorized

    monkeypatch.setattr(scene.engine, "describe", refuse)
    scene.engine.well = True
    assert {scene.step() for _ in range(3)} == {State.LOADING}
    assert scene.supervisor.trouble == TROUBLES[Health.UNAUTHORIZED]


def test_an_adopted_engine_that_is_unreachable_is_reported() -> None:
    scene = Scene(adopted=True)
    scene.step()
    assert (scene.step(), scene.supervisor.trouble) == (State.LOADING, TROUBLES[Health.UNREACHABLE])
    scene.engine.ill = Health.LOADING
    assert (scene.step(), scene.supervisor.trouble) == (State.LOADING, "")


def test_a_started_engine_that_does_not_listen_yet_is_no_trouble(scene: Scene) -> None:
    scene.step()
    assert (scene.step(), scene.supervisor.trouble) == (State.LOADING, "")


def test_a_death_is_reported_with_its_exit_reason(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.raise_up()
    fail(scene)
    assert scene.supervisor.trouble == scene.supervisor.last_failure == "engine process died (killed by SIGKILL)"
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert (record.getMessage(), record.failures) == (scene.supervisor.trouble, 1)  # type: ignore[attr-defined]
    assert scene.supervisor.retry_in_s == FIRST_BACKOFF_S
    scene.raise_up()
    assert (scene.supervisor.trouble, scene.supervisor.retry_in_s) == ("", 0.0)


def test_failures_in_a_row_are_a_crash_loop_until_it_has_lived_for_a_while(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    loops = []
    for _ in range(5):
        scene.raise_up()
        fail(scene)
        loops.append(scene.supervisor.crash_loop)
    assert loops == [failures >= CRASH_LOOP_FAILURES for failures in range(1, 6)]
    assert scene.supervisor.trouble == "crash loop: engine process died (killed by SIGKILL)"
    assert caplog.records[-1].getMessage() == scene.supervisor.trouble
    # Between two failures it looks well, and is not.
    scene.raise_up()
    assert (scene.supervisor.crash_loop, scene.supervisor.trouble, scene.supervisor.failures) == (True, "", 5)
    assert scene.supervisor.last_failure == "engine process died (killed by SIGKILL)"
    scene.step(RESET_FAILURES_AFTER_S + 1)
    assert (scene.supervisor.crash_loop, scene.supervisor.last_failure, scene.supervisor.failures) == (False, "", 0)


def test_a_command_that_cannot_be_run_says_why(scene: Scene) -> None:
    scene.child.startable = False
    scene.step()
    assert scene.supervisor.trouble.startswith("engine cannot be started (")


def test_a_program_that_is_not_there_is_named(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def start() -> None:
        raise FileNotFoundError(2, "No such file or directory", "llama-server")

    monkeypatch.setattr(scene.child, "start", start)
    scene.step()
    assert scene.supervisor.trouble == "engine cannot be started (there is no program llama-server)"


def test_an_engine_that_another_worker_starts_is_an_error_only_after_a_while(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(adopted=True)
    for _ in range(3):
        scene.step()
    assert (scene.supervisor.trouble, caplog.messages) == (TROUBLES[Health.UNREACHABLE], [])
    scene.step(START_PATIENCE_S)
    scene.step()
    assert caplog.messages == [TROUBLES[Health.UNREACHABLE]]
    scene.raise_up()
    caplog.clear()
    scene.engine.well = False
    scene.step(HEALTH_INTERVAL_S + 0.1)
    assert caplog.messages == [TROUBLES[Health.UNREACHABLE]]


def test_a_port_that_is_taken_is_named_with_its_settings(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graycat.engines.process.supervisor.is_listening", lambda url: True)
    scene.step()
    assert "port 1:" in scene.supervisor.trouble
    assert "LLM_PORT" in scene.supervisor.trouble
