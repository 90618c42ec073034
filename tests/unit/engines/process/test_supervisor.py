from __future__ import annotations

from collections.abc import Sequence

import pytest

from graycat.engines.base import PROBE_TIMEOUT_S, EngineInfo, Health, State
from graycat.engines.client import EngineClient
from graycat.engines.process.supervisor import (
    DESCRIBE_INTERVAL_S,
    FIRST_BACKOFF_S,
    HEALTH_INTERVAL_S,
    MAX_BACKOFF_S,
    REFUSED_KILL_AFTER_S,
    RESET_FAILURES_AFTER_S,
    TROUBLES,
    Supervisor,
)
from graycat.errors import EngineLost

INFO = EngineInfo(slots=4, props=b"{}")


class FakeEngine:
    """An engine that is as healthy as it is told."""

    name, url = "fake", "http://127.0.0.1:1"
    busy_timeout_s = 0.0

    def __init__(self) -> None:
        self.client = EngineClient(self.url)
        self.info = INFO
        self.well = False
        #: What it is like while it is not well.
        self.ill = Health.UNREACHABLE
        #: Whether it answers to who waits longer.
        self.slow = False
        self.describes = True
        self.explained = ""
        self.probes = 0

    def command(self) -> Sequence[str] | None:
        return None

    def health(self, timeout_s: float = PROBE_TIMEOUT_S) -> Health:
        self.probes += 1
        if timeout_s > PROBE_TIMEOUT_S and self.slow:
            return Health.LOADING
        return Health.HEALTHY if self.well else self.ill

    def explain(self) -> str:
        return self.explained

    def describe(self) -> EngineInfo:
        if not self.describes:
            raise EngineLost
        return self.info


class FakeChild:
    """A process that starts and dies as it is told."""

    def __init__(self) -> None:
        self.running = False
        self.startable = True
        self.starts = self.stops = 0

    def start(self) -> None:
        self.starts += 1
        if not self.startable:
            raise FileNotFoundError(2, "no such engine")
        self.running = True

    def alive(self) -> bool:
        return self.running

    @property
    def exit_reason(self) -> str:
        return "" if self.running else "killed by SIGKILL"

    def stop(self) -> None:
        self.stops += 1
        self.running = False


class Scene:
    """A supervised engine, and the clock."""

    def __init__(self, *, adopted: bool = False) -> None:
        self.engine, self.child = FakeEngine(), FakeChild()
        self.supervisor = Supervisor(self.engine, None if adopted else self.child)
        self.now = 1000.0

    def step(self, later_s: float = 0.1) -> State:
        """Let time pass, then step."""
        self.now += later_s
        return self.supervisor.step(self.now)

    def raise_up(self) -> None:
        """Step until the engine is ready."""
        self.engine.well = True
        while self.step() is not State.READY:
            assert self.supervisor.starts < 20
            self.now += 1

    def downtime_s(self) -> float:
        """Return the seconds until the next start, to a tenth."""
        starts, since = self.supervisor.starts, self.now
        while self.supervisor.starts == starts:
            self.step()
        return self.now - since


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_an_engine_is_started_and_ready_when_its_model_is_loaded(scene: Scene) -> None:
    assert scene.supervisor.state is State.STOPPED
    assert scene.step() is State.LOADING
    assert (scene.child.starts, scene.supervisor.ready.is_set()) == (1, False)
    assert scene.step() is State.LOADING
    scene.engine.well = True
    assert scene.step() is State.READY
    assert scene.supervisor.ready.is_set()
    assert scene.supervisor.info == INFO
    assert scene.child.starts == 1


def test_an_engine_whose_answers_make_no_sense_says_so(scene: Scene) -> None:
    scene.engine.ill, scene.engine.explained = Health.LOADING, "engine answers, but not as a WebUI: progress 422"
    scene.step()
    assert scene.step() is State.LOADING
    assert scene.supervisor.trouble == scene.engine.explained
    scene.raise_up()
    assert scene.supervisor.trouble == ""


def test_a_load_is_timed_from_its_start_and_a_doubt_is_none(scene: Scene) -> None:
    scene.step(0.0)
    assert scene.supervisor.load_s == 0.0
    scene.engine.well = True
    scene.step(7.5)
    assert scene.supervisor.load_s == 7.5
    scene.supervisor.suspect()
    scene.step(9.0)
    assert (scene.supervisor.state, scene.supervisor.load_s) == (State.READY, 7.5)


def test_an_engine_that_cannot_describe_itself_yet_is_not_ready(scene: Scene) -> None:
    scene.engine.well, scene.engine.describes = True, False
    scene.step()
    assert scene.step() is State.LOADING
    scene.engine.describes = True
    assert scene.step() is State.READY


def test_a_long_load_is_left_alone(scene: Scene) -> None:
    scene.step()
    assert {scene.step(10) for _ in range(60)} == {State.LOADING}
    assert (scene.child.starts, scene.child.stops) == (1, 0)


def test_a_dead_process_is_noticed_at_the_next_step(scene: Scene) -> None:
    scene.raise_up()
    scene.child.running = False
    assert scene.step() is State.STOPPED
    assert not scene.supervisor.ready.is_set()


def test_a_process_that_dies_while_it_loads_is_started_again(scene: Scene) -> None:
    scene.step()
    scene.child.running = False
    assert scene.step() is State.STOPPED
    scene.downtime_s()
    assert scene.child.starts == 2


def test_each_start_in_a_row_waits_twice_as_long_up_to_a_limit(scene: Scene) -> None:
    scene.step()
    waits = []
    for _ in range(9):
        scene.child.running = False
        scene.step()
        waits.append(scene.downtime_s())
    doubled = [min(FIRST_BACKOFF_S * 2**n, MAX_BACKOFF_S) for n in range(9)]
    assert waits == pytest.approx(doubled, abs=0.11)


def test_a_command_that_cannot_be_run_is_tried_again_with_back_off(scene: Scene) -> None:
    scene.child.startable = False
    assert scene.step() is State.STOPPED
    assert scene.downtime_s() == pytest.approx(FIRST_BACKOFF_S, abs=0.11)
    assert scene.supervisor.state is State.STOPPED
    scene.child.startable = True
    scene.raise_up()
    assert scene.supervisor.ready.is_set()


def test_a_short_life_does_not_reset_failures(scene: Scene) -> None:
    for expected_s in (0.5, 1.0, 2.0):
        scene.raise_up()
        scene.step(RESET_FAILURES_AFTER_S / 2)
        scene.child.running = False
        scene.step()
        assert scene.downtime_s() == pytest.approx(expected_s, abs=0.11)


def test_a_long_life_resets_failures(scene: Scene) -> None:
    for _ in range(4):
        scene.step()
        scene.child.running = False
        scene.step()
        scene.downtime_s()
    scene.raise_up()
    scene.step(RESET_FAILURES_AFTER_S + 1)
    scene.child.running = False
    scene.step()
    assert scene.downtime_s() == pytest.approx(FIRST_BACKOFF_S, abs=0.11)


def test_failures_that_a_request_has_caused_are_excused_and_the_engine_starts_at_once(scene: Scene) -> None:
    for _ in range(4):
        scene.supervisor.step(scene.now)
        scene.child.running = False
        scene.supervisor.step(scene.now)
        scene.now += MAX_BACKOFF_S
    scene.now -= MAX_BACKOFF_S
    assert scene.supervisor.crash_loop
    starts = scene.child.starts
    scene.supervisor.excuse_failures()
    assert (scene.supervisor.crash_loop, scene.supervisor.retry_in_s) == (False, 0.0)
    scene.supervisor.step(scene.now)
    assert scene.child.starts == starts + 1


def test_a_healthy_engine_is_asked_now_and_then_only(scene: Scene) -> None:
    scene.raise_up()
    before = scene.engine.probes
    for _ in range(200):
        scene.step(HEALTH_INTERVAL_S / 20)
    assert scene.engine.probes - before == pytest.approx(10, abs=1)


def test_an_engine_that_refuses_connections_takes_no_work_and_is_restarted_after_a_while(scene: Scene) -> None:
    scene.raise_up()
    scene.engine.well = False
    assert scene.step(HEALTH_INTERVAL_S + 0.1) is State.LOADING
    assert scene.supervisor.trouble == TROUBLES[Health.UNREACHABLE]
    assert scene.step(REFUSED_KILL_AFTER_S - HEALTH_INTERVAL_S - 0.2) is State.LOADING
    assert scene.child.stops == 0
    assert scene.step(0.2) is State.STOPPED
    assert scene.child.stops == 1
    scene.raise_up()
    assert scene.child.starts == 2


def test_a_single_failed_probe_is_forgotten_at_the_next_good_one(scene: Scene) -> None:
    scene.raise_up()
    for _ in range(6):
        scene.engine.well = False
        scene.step(HEALTH_INTERVAL_S + 0.1)
        scene.engine.well = True
        assert scene.step(HEALTH_INTERVAL_S + 0.1) is State.READY
    assert scene.child.starts == 1


def test_a_suspected_engine_takes_no_work_until_it_answers_again(scene: Scene) -> None:
    scene.raise_up()
    scene.engine.well = False
    scene.supervisor.suspect()
    assert not scene.supervisor.ready.is_set()
    assert scene.step() is State.LOADING
    scene.engine.well = True
    assert scene.step() is State.READY
    assert scene.child.starts == 1


def test_a_suspected_engine_that_never_answers_again_is_restarted(scene: Scene) -> None:
    scene.raise_up()
    scene.engine.well = False
    scene.supervisor.suspect()
    for _ in range(60):
        scene.step(HEALTH_INTERVAL_S)
    assert scene.child.stops >= 1
    assert scene.child.starts >= 2


@pytest.mark.parametrize("steps", [0, 1])
def test_only_a_ready_engine_can_be_suspected(scene: Scene, steps: int) -> None:
    states = [scene.supervisor.state, *(scene.step() for _ in range(steps))]
    scene.supervisor.suspect()
    assert scene.supervisor.state is states[-1]


def test_stopping_stops_the_process(scene: Scene) -> None:
    scene.raise_up()
    scene.supervisor.stop()
    assert (scene.child.running, scene.supervisor.state) == (False, State.STOPPED)
    assert not scene.supervisor.ready.is_set()


def test_an_adopted_engine_is_watched_but_never_started_or_stopped() -> None:
    scene = Scene(adopted=True)
    scene.raise_up()
    scene.engine.well = False
    assert scene.step(HEALTH_INTERVAL_S + 0.1) is State.LOADING
    assert scene.step(REFUSED_KILL_AFTER_S) is State.STOPPED
    scene.raise_up()
    scene.supervisor.stop()
    assert (scene.child.starts, scene.child.stops) == (0, 0)


def test_an_engine_is_described_again_at_intervals(scene: Scene) -> None:
    scene.raise_up()
    scene.engine.info = changed = EngineInfo(slots=1, catalog={"loras": b"[1]"})
    scene.step(HEALTH_INTERVAL_S + 0.1)
    assert scene.supervisor.info == INFO
    scene.step(DESCRIBE_INTERVAL_S)
    assert scene.supervisor.info == changed


def test_a_failed_description_keeps_the_last_one(scene: Scene) -> None:
    scene.raise_up()
    scene.engine.describes = False
    assert scene.step(DESCRIBE_INTERVAL_S + 0.1) is State.READY
    assert scene.supervisor.info == INFO


def test_an_engine_can_be_described_again_at_once(scene: Scene) -> None:
    scene.raise_up()
    scene.engine.info = EngineInfo(slots=3)
    scene.supervisor.describe()
    assert scene.supervisor.info == scene.engine.info


def test_an_engine_that_does_not_end_its_work_is_started_anew(scene: Scene) -> None:
    scene.raise_up()
    scene.supervisor.request_restart()
    assert scene.step() is State.STOPPED
    assert scene.supervisor.trouble
    scene.raise_up()
    assert (scene.child.starts, scene.supervisor.trouble) == (2, "")
