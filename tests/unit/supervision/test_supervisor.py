"""The supervisor as a process of its own, as ``graycat up`` runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.helpers import PATIENCE_S, ROOT, eventually

SUPERVISE = """
import os, sys
from graycat.supervision.specs import ProcessSpec
from graycat.supervision.supervisor import ProcessSupervisor
specs = [ProcessSpec(name, command, drainable=name.startswith("worker"))
         for name, _, command in (line.partition(": ") for line in sys.argv[2:])]
supervisor = ProcessSupervisor(specs, os.environ, float(sys.argv[1]))
supervisor.before_stop = lambda: print("about to stop", flush=True)
supervisor.run()
"""
#: Says its process id and waits; with DEAF it heeds no SIGTERM.
WAITS = f"{sys.executable} -uc 'import os, time; print(\"pid\", os.getpid()); time.sleep(600)'"
DEAF = (
    f"{sys.executable} -uc 'import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    'print("pid", os.getpid()); time.sleep(600)\''
)


class Supervised:
    """A supervisor and what it has printed."""

    def __init__(self, *lines: str, kill_after_s: float = 5.0) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-c", SUPERVISE, str(kill_after_s), *lines],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.popen.stdout is not None
        self._stdout = self.popen.stdout
        self.lines: list[str] = []

    def wait_for(self, text: str) -> str:
        """Return the next line that has a text in it."""
        for line in self._stdout:
            self.lines.append(line)
            if text in line:
                return line
        raise AssertionError(f"no {text!r} in {self.lines}")

    def pid_of(self, name: str) -> int:
        """Return the process id that a process says next."""
        while True:
            line = self.wait_for("| pid ")
            if f" {name} " in line:
                return int(line.split()[-1])

    def end(self) -> None:
        self.popen.kill()
        self.popen.communicate(timeout=PATIENCE_S)


@pytest.fixture
def supervise() -> Iterator[type[Supervised]]:
    """Return how to start a supervisor; all end with the test."""
    started: list[Supervised] = []

    class Started(Supervised):
        def __init__(self, *lines: str, kill_after_s: float = 5.0) -> None:
            super().__init__(*lines, kill_after_s=kill_after_s)
            started.append(self)

    yield Started
    for supervised in started:
        supervised.end()


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_process_that_is_killed_comes_back_and_its_neighbour_is_left_alone(supervise) -> None:
    supervised = supervise(f"one: {WAITS}", f"two: {WAITS}")
    pids: dict[str, int] = {}
    while len(pids) < 2:
        line = supervised.wait_for("| pid ")
        pids[line.split()[1]] = int(line.split()[-1])
    subprocess.run(["kill", "-9", str(pids["one"])], check=True)
    assert "killed by SIGKILL" in supervised.wait_for("one ended")
    assert supervised.pid_of("one") != pids["one"]
    assert alive(pids["two"])


def test_sigterm_stops_everything(supervise) -> None:
    supervised = supervise(f"one: {WAITS}")
    pid = supervised.pid_of("one")
    supervised.popen.send_signal(signal.SIGTERM)
    supervised.wait_for("about to stop")
    assert supervised.popen.wait(PATIENCE_S) == 0
    assert not alive(pid)


def test_what_does_not_heed_is_killed_in_the_end(supervise) -> None:
    supervised = supervise(f"one: {DEAF}", kill_after_s=0.5)
    pid = supervised.pid_of("one")
    supervised.popen.send_signal(signal.SIGINT)
    assert supervised.popen.wait(PATIENCE_S) == 0
    assert not alive(pid)


def test_a_supervisor_that_is_killed_leaves_nothing_behind(supervise) -> None:
    supervised = supervise(f"one: {WAITS}")
    pid = supervised.pid_of("one")
    supervised.popen.kill()
    supervised.popen.wait(PATIENCE_S)
    eventually(lambda: not alive(pid))


def test_a_drained_worker_stays_away_and_when_all_are_drained_it_ends(supervise) -> None:
    supervised = supervise("worker: true")
    supervised.wait_for("worker was drained")
    assert supervised.popen.wait(PATIENCE_S) == 0


def test_a_process_of_graycat_s_is_told_of_when_it_says_that_it_is_ready(
    supervise: type[Supervised], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "graycat"
    program.write_text(
        f"#!{sys.executable}\n"
        "import os, time\n"
        "from graycat.loops import readiness\n"
        "readiness.tell_ready('in here')\n"
        "os.execvp('sleep', ['sleep', '600'])\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # The supervisor's own supervisor is told nothing of its processes.
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    supervised = supervise("web: graycat web", "mine: sleep 600")
    supervised.wait_for("up   | starting web, mine")
    supervised.wait_for("web  | ready: in here")
    assert sum("started (pid" in line for line in supervised.lines) <= 1
    assert not any("web started" in line for line in supervised.lines)
    supervised.popen.send_signal(signal.SIGINT)
    assert supervised.popen.wait(PATIENCE_S) == 0
