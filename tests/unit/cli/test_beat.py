"""``graycat beat``, as a process on the broker of the tests."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graycat import healthcheck
from graycat.cli.beat import trouble
from graycat.metrics.server import BEAT_OFFSET
from graycat.schedules.records import ScheduleRecords
from tests.support.helpers import SECRET, Valkey, eventually, run
from tests.support.ports import free_port
from tests.support.processes import Output
from tests.unit.schedules.test_file import NIGHTLY

GRAYCAT = str(Path(__import__("sys").executable).parent / "graycat")


@pytest.fixture
def beat(broker: Valkey, bare_environment: dict[str, str], tmp_path: Path) -> Iterator[Any]:
    """Return how to start a beat on the shared broker; the process, and what it prints."""
    yield from _beats(broker, bare_environment, tmp_path)


@pytest.fixture
def mortal_beat(mortal_broker: Valkey, bare_environment: dict[str, str], tmp_path: Path) -> Iterator[Any]:
    """Return how to start a beat on a broker that the test may kill."""
    yield from _beats(mortal_broker, bare_environment, tmp_path)


def _beats(broker: Valkey, bare_environment: dict[str, str], tmp_path: Path) -> Iterator[Any]:
    env = bare_environment | {"GRAYCAT_HOME": str(broker.settings.home), "API_TOKENS": f"tests:{SECRET}"}
    env |= {"GRAYCAT_SCHEDULE_TICK_S": "0.2", "GRAYCAT_SCHEDULES_FILE": str(tmp_path / "s.toml")}
    started: list[tuple[subprocess.Popen[str], Output]] = []

    def start(**more: str) -> tuple[subprocess.Popen[str], Output]:
        process = subprocess.Popen(
            [GRAYCAT, "beat"], env=env | more, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert process.stdout is not None
        started.append((process, Output(process.stdout)))
        return started[-1]

    yield start
    for process, output in started:
        process.kill()
        process.wait(30)
        output.close(30)


def test_it_ticks_and_releases_its_lock_at_sigterm(beat, broker: Valkey, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(NIGHTLY)
    process, output = beat()
    output.wait_for("beat ticks", 60)
    assert eventually(lambda: broker.client.llen("control"))
    (view,) = ScheduleRecords(broker.client, broker.settings).list()
    assert (view["name"], view["source"]) == ("nightly", "file")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert broker.client.get("graycat:beat::lock") is None


def test_a_beat_that_waits_for_the_lock_can_be_stopped(beat, broker: Valkey) -> None:
    broker.client.set("graycat:beat::lock", "another's")
    process, _ = beat()
    assert eventually(lambda: broker.client.exists("graycat:beat::schedule"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert broker.client.llen("control") == 0
    assert broker.client.get("graycat:beat::lock") == b"another's"


def test_an_error_in_the_file_is_one_line(bare_environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(NIGHTLY.replace("0 1 *", "0 99 *"))
    env = bare_environment | {"GRAYCAT_HOME": str(tmp_path), "GRAYCAT_SCHEDULES_FILE": str(tmp_path / "s.toml")}
    result = run([GRAYCAT, "beat"], env=env)
    assert result.returncode == 2
    assert "bad hour" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "broker").exists()
    assert os.listdir(tmp_path) == ["s.toml"] or sorted(os.listdir(tmp_path)) == ["api-token", "s.toml"]


def start_empty(broker: Valkey) -> None:
    """Start a broker again without its data."""
    for path in (broker.settings.home / "broker").rglob("*"):
        if path.is_file() and path.suffix != ".log":
            path.unlink()
    broker.start()
    assert broker.client.exists("graycat:beat::schedule") == 0


def test_a_broker_that_comes_back_empty_is_ticked_again(mortal_beat, mortal_broker: Valkey) -> None:
    process, output = mortal_beat()
    output.wait_for("beat ticks", 60)
    for _ in range(2):
        mortal_broker.kill()
        start_empty(mortal_broker)
        assert eventually(lambda: mortal_broker.client.llen("control"), 10)
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
    assert mortal_broker.client.get("graycat:beat::lock") is None


@pytest.mark.parametrize("stuck", [False, True])
@pytest.mark.parametrize("noticed", [False, True])
def test_it_ends_soon_while_the_broker_is_away(mortal_beat, mortal_broker: Valkey, stuck: bool, noticed: bool) -> None:
    process, output = mortal_beat()
    output.wait_for("beat ticks", 60)
    pid = mortal_broker.client.info("server")["process_id"]
    if stuck:
        os.kill(pid, signal.SIGSTOP)
    else:
        mortal_broker.kill()
    try:
        if noticed:
            output.wait_for("broker unavailable", 30)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    finally:
        if stuck:
            os.kill(pid, signal.SIGCONT)


def test_it_ends_soon_if_the_broker_never_came(mortal_beat, mortal_broker: Valkey) -> None:
    mortal_broker.kill()
    process, output = mortal_beat()
    output.wait_for("broker unavailable", 60)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0


def test_a_damaged_list_of_schedules_does_not_end_it(beat, broker: Valkey, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(NIGHTLY)
    broker.client.set("graycat:schedules", "rubbish")
    process, output = beat()
    output.wait_for("beat ticks", 60)
    assert process.poll() is None


def test_it_says_how_it_is(mortal_beat, mortal_broker: Valkey) -> None:
    port = free_port()
    process, output = mortal_beat(GRAYCAT_METRICS_PORT=str(port - BEAT_OFFSET))
    output.wait_for("beat ticks", 60)
    assert healthcheck.ask(str(port)) == ""
    mortal_broker.kill()
    assert eventually(lambda: "the broker does not answer" in healthcheck.ask(str(port)), 20)
    mortal_broker.start()
    assert eventually(lambda: healthcheck.ask(str(port)) == "", 20)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_one_that_waits_is_well_while_another_ticks(broker: Valkey) -> None:
    assert trouble(broker.client, broker.settings) == "no beat ticks"
    broker.client.set("graycat:beat::lock", "another's")
    assert trouble(broker.client, broker.settings) == ""
