"""Two real beats and a real control worker: whatever is killed, each nominal time is one batch."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import eventually
from tests.support.stack import Stack

SPEC = {"name": "portraits", "defaults": {"width": 64, "height": 64}, "items": [{"prompt": "a tavern"}]}
#: Seconds that everything gets which takes a few on an idle machine; a beat's lock holds for five of them.
PATIENCE_S = 180.0
#: Nominal times that are made due at once, by putting back the clock of a schedule.
BACK = 20
MINUTE = 60


class BeatStack(Stack):
    """Broker, web, a control worker and two beats; no engine."""

    def __init__(self, home: Path) -> None:
        env = {"RUN_LLM": "false", "GRAYCAT_SCHEDULE_TICK_S": "0.5", "GRAYCAT_BATCH_MAX_LIVE": "10000"}
        env |= {"GRAYCAT_SCHEDULES_FILE": str(home / "schedules.toml")}
        super().__init__(home, separately=True, env=env)
        self.commands = {name: self.commands[name] for name in ("broker", "web", "control", "beat")}
        self.commands["beat2"] = self.commands["beat"]

    def add(self, name: str) -> None:
        """Add a schedule of every minute that makes up for what was missed."""
        body = {"name": name, "cron": "* * * * *", "spec": SPEC, "missed": "all", "overlap": "allow"}
        assert self.client().post("/schedules", body).status_code == 201

    def embed_images(self, name: str, minutes: int = BACK) -> int:
        """Put back the clock of a schedule; return the first nominal time that is due now."""
        key = f"graycat:schedule:tests:{name}"
        mark = int(self.redis().time()[0]) // MINUTE * MINUTE - minutes * MINUTE
        self.redis().hset(key, "mark", mark)
        return mark + MINUTE

    def fired(self, name: str) -> list[str]:
        """Return the nominal times of a schedule that have become batches, as they stand in the keys of those."""
        keys = [
            self.redis().hget(f"graycat:batch:{batch}", "key")
            for batch in self.redis().zrange("graycat:batches", 0, -1)
        ]
        return sorted(key.rpartition("/")[2] for key in keys if key.startswith(f"schedule/{name}/"))

    def caught_up(self, name: str) -> bool:
        """Return whether a schedule has been looked at up to this minute, and nothing of it waits."""
        key = f"graycat:schedule:tests:{name}"
        now = int(self.redis().time()[0])
        return int(self.redis().hget(key, "mark")) > now - 2 * MINUTE and not self.redis().exists(f"{key}:waiting")

    def ticking(self) -> str:
        """Return which beat ticks: the one that holds the lock has said so last."""
        told = {name: self.outputs[name].text.count("beat ticks") for name in ("beat", "beat2")}
        return next((name for name in ("beat", "beat2") if told[name]), "")


@pytest.fixture(scope="module")
def beats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BeatStack]:
    stack = BeatStack(tmp_path_factory.mktemp("beats"))
    try:
        stack.start()
        yield stack
    finally:
        stack.kill_all()


def every_minute(first: int, fired: list[str]) -> list[str]:
    """Return the nominal times from the first to the last that was fired."""
    last = int(datetime.strptime(fired[-1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp())
    return [f"{datetime.fromtimestamp(at, UTC):%Y%m%dT%H%M%SZ}" for at in range(first, last + 1, MINUTE)]


def assert_each_once(beats: BeatStack, name: str, first: int) -> None:
    eventually(lambda: beats.caught_up(name), PATIENCE_S)
    fired = beats.fired(name)
    assert len(fired) >= BACK
    assert fired == every_minute(first, fired)


def test_two_beats_fire_each_nominal_time_once(beats: BeatStack) -> None:
    beats.add("calm")
    first = beats.embed_images("calm")
    assert_each_once(beats, "calm", first)
    # A clock that is put back finds what is there already.
    before = beats.fired("calm")
    again = beats.embed_images("calm", minutes=BACK // 2)
    eventually(lambda: beats.caught_up("calm"), PATIENCE_S)
    assert again >= first
    assert beats.fired("calm")[: len(before)] == before
    assert len(set(beats.fired("calm"))) == len(beats.fired("calm"))


def test_a_beat_that_is_killed_is_replaced_by_the_other(beats: BeatStack) -> None:
    beats.add("killed-beat")
    eventually(beats.ticking, PATIENCE_S)
    dead = beats.ticking()
    other = {"beat": "beat2", "beat2": "beat"}[dead]
    beats.kill(dead)
    first = beats.embed_images("killed-beat")
    beats.outputs[other].wait_for("beat ticks", PATIENCE_S)
    assert_each_once(beats, "killed-beat", first)
    beats.launch(dead)


def test_a_control_worker_that_is_killed_while_it_fires_loses_and_doubles_nothing(beats: BeatStack) -> None:
    beats.add("killed-worker")
    first = beats.embed_images("killed-worker", minutes=300)
    eventually(lambda: beats.fired("killed-worker"), PATIENCE_S)
    beats.kill("control")
    partly = beats.fired("killed-worker")
    beats.launch("control")
    assert_each_once(beats, "killed-worker", first)
    assert len(partly) < len(beats.fired("killed-worker"))


def test_a_broker_that_is_killed_costs_no_time_and_no_beat(beats: BeatStack) -> None:
    beats.add("killed-broker")
    first = beats.embed_images("killed-broker", minutes=300)
    eventually(lambda: beats.fired("killed-broker"), PATIENCE_S)
    pid = beats.server_pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    beats.wait("broker", PATIENCE_S)
    beats.restart_dead()
    assert_each_once(beats, "killed-broker", first)
    assert all(beats.alive(name) for name in ("beat", "beat2"))


def test_what_a_caller_sees(beats: BeatStack) -> None:
    client = beats.client()
    view: Any = client.get("/schedules/calm").json()
    assert {fire["outcome"] for fire in view["fires"]} == {"fired"}
    batch = client.post("/schedules/calm/run").json()["batch"]
    assert beats.redis().hget(f"graycat:batch:{batch}", "owner") == "tests"
    assert "a tavern" not in beats.output
    assert "Traceback" not in beats.output
