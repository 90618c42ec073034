from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graycat.engines.process import child as process
from graycat.engines.process.child import ChildProcess
from tests.support.helpers import AT_ONCE_S, PATIENCE_S, ROOT, Stopwatch, eventually

#: Starts a child that would live for an hour, tells its id, and waits to be killed.
OWNER = """
import signal, sys
from pathlib import Path
from graycat.engines.process.child import ChildProcess
child = ChildProcess(["sleep", "3600"], Path(sys.argv[1]))
child.start()
print(child.pid, flush=True)
signal.pause()
"""

STUBBORN = (
    "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
)


@pytest.fixture
def child_of(tmp_path: Path) -> Iterator[Callable[..., ChildProcess]]:
    """Return how to make a child whose output goes to ``output``."""
    made = []

    def make(*command: str) -> ChildProcess:
        made.append(ChildProcess(command, tmp_path / "log" / "output"))
        return made[-1]

    yield make
    for child in made:
        child.stop()


def gone(pid: int) -> bool:
    """Tell whether a process has ended; a zombie has, though nobody has asked for its status yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def test_a_child_lives_until_it_is_stopped(child_of) -> None:
    child = child_of("sleep", "3600")
    assert (child.alive(), child.pid) == (False, None)
    child.start()
    pid = child.pid
    assert child.alive()
    child.stop()
    assert (child.alive(), child.pid) == (False, None)
    assert gone(pid)


def test_a_child_that_ends_by_itself_is_noticed(child_of) -> None:
    child = child_of("true")
    child.start()
    eventually(lambda: not child.alive())


def test_stopping_what_does_not_run_does_nothing(child_of) -> None:
    child = child_of("true")
    child.stop()
    child.start()
    eventually(lambda: not child.alive())
    child.stop()
    child.stop()
    assert child.pid is None


def test_a_child_may_be_started_again_and_its_log_goes_on(child_of, tmp_path: Path) -> None:
    child = child_of("sh", "-c", "echo to output; echo to errors >&2")
    for _ in range(2):
        child.start()
        eventually(lambda: not child.alive())
        child.stop()
    assert (tmp_path / "log" / "output").read_text() == "to output\nto errors\n" * 2


def test_a_child_that_ignores_the_first_signal_gets_the_second(child_of, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(process, "TERM_GRACE_S", 0.1)
    child = child_of(sys.executable, "-c", STUBBORN)
    child.start()
    pid = child.pid
    eventually(lambda: "deaf" in (tmp_path / "log" / "output").read_text())
    watch = Stopwatch()
    child.stop()
    assert gone(pid)
    assert 0.1 <= watch.seconds < AT_ONCE_S


def test_a_command_that_cannot_be_run_is_an_error(child_of, tmp_path: Path) -> None:
    child = child_of(str(tmp_path / "no-such-engine"))
    with pytest.raises(OSError, match="no-such-engine"):
        child.start()
    assert not child.alive()
    child.stop()


def test_ctrl_c_in_the_terminal_is_not_for_the_child(child_of) -> None:
    child = child_of("sleep", "3600")
    child.start()
    assert os.getsid(child.pid) == child.pid


def test_a_child_reads_nothing_from_the_terminal(child_of, tmp_path: Path) -> None:
    child = child_of("sh", "-c", "cat; echo end")
    child.start()
    eventually(lambda: not child.alive())
    assert (tmp_path / "log" / "output").read_text() == "end\n"


def test_a_killed_owner_leaves_no_orphan(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(tmp_path / "output")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert not gone(pid)
        owner.send_signal(signal.SIGKILL)
        assert owner.wait(PATIENCE_S) == -signal.SIGKILL
        eventually(lambda: gone(pid))


def test_a_child_goes_with_the_thread_that_started_it(child_of) -> None:
    child = child_of("sleep", "3600")
    thread = threading.Thread(target=child.start)
    thread.start()
    thread.join()
    eventually(lambda: not child.alive())


def test_a_command_may_be_made_when_the_process_starts(tmp_path: Path) -> None:
    words = ["false"]
    child = ChildProcess(lambda: words, tmp_path / "output")
    words[:] = ["sh", "-c", "echo late"]
    child.start()
    eventually(lambda: not child.alive())
    assert (tmp_path / "output").read_text() == "late\n"
    child.stop()
