"""Nothing of an engine is left, however it, its shim or its owner ends, also where a script hides it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from graycat.engines.process import child as process
from graycat.engines.process.child import ShimmedProcess
from graycat.engines.process.shim import CANNOT_RUN
from tests.support.helpers import PATIENCE_S, ROOT, Stopwatch, eventually

#: What start scripts do: run the engine as a child, in a session of its own, behind a second fork; or heed no SIGTERM.
SCRIPTS = {
    "child": "sleep {mark}; echo never",
    "session": "setsid sleep {mark} & wait",
    "orphan": "(setsid sleep {mark} >/dev/null 2>&1 &) ; sleep {mark}",
    "deaf": "trap '' TERM; setsid sleep {mark} & wait; wait",
}
#: Starts a script as a worker would, prints the shim's id, and waits to be killed.
OWNER = """
import signal, sys
from pathlib import Path
from graycat.engines.process.child import ShimmedProcess
child = ShimmedProcess(["sh", "-c", sys.argv[1]], Path(sys.argv[2]))
child.start()
print(child.pid, flush=True)
signal.pause()
"""
#: Seconds in which all is gone, by the promise; and a mark that no other process has.
KILL_TIMEOUT_S = 3.0
_marks = iter(range(31_000_000 + os.getpid() * 100, 2**31))


class Script:
    """A start script, found by the number of seconds that its processes would sleep."""

    def __init__(self, name: str) -> None:
        self.mark = str(next(_marks))
        self.text = SCRIPTS[name].format(mark=self.mark)

    def sleepers(self) -> list[int]:
        """Return the ids of the processes that it has started and that live."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if words[0].endswith(b"sleep") and self.mark.encode() in words and state not in "ZX":
                found.append(int(folder.name))
        return found


@pytest.fixture(params=SCRIPTS)
def script(request: pytest.FixtureRequest) -> Iterator[Script]:
    """Return each script; nothing of it is left in any case."""
    made = Script(request.param)
    yield made
    for pid in made.sleepers():
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def kept(script: Script, tmp_path: Path) -> Iterator[ShimmedProcess]:
    """Return a script that runs."""
    child = ShimmedProcess(["sh", "-c", script.text], tmp_path / "output")
    child.start()
    eventually(script.sleepers)
    yield child
    child.stop()


def test_a_killed_owner_leaves_no_grandchild(script: Script, tmp_path: Path) -> None:
    command = [sys.executable, "-c", OWNER, script.text, str(tmp_path / "output")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as owner:
        eventually(script.sleepers)
        owner.send_signal(signal.SIGKILL)
        assert owner.wait(PATIENCE_S) == -signal.SIGKILL
        watch = Stopwatch()
        eventually(lambda: not script.sleepers())
        assert watch.seconds < KILL_TIMEOUT_S


def test_a_script_that_is_stopped_leaves_nothing(
    script: Script, kept: ShimmedProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "TERM_GRACE_S", 0.3)
    kept.stop()
    assert (script.sleepers(), kept.pid) == ([], None)


def test_a_killed_script_leaves_nothing_and_its_exit_reason_is_known(script: Script, kept: ShimmedProcess) -> None:
    # The first of the shim's children; orphans come behind it.
    os.kill(int(Path(f"/proc/{kept.pid}/task/{kept.pid}/children").read_text().split()[0]), signal.SIGKILL)
    eventually(lambda: not kept.alive())
    assert (script.sleepers(), kept.exit_reason) == ([], "killed by SIGKILL")


def test_a_killed_shim_leaves_nothing_of_its_session(tmp_path: Path) -> None:
    script = Script("child")
    child = ShimmedProcess(["sh", "-c", script.text], tmp_path / "output")
    child.start()
    eventually(script.sleepers)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    eventually(lambda: not child.alive())
    child.stop()
    eventually(lambda: not script.sleepers())


@pytest.mark.parametrize(
    ("command", "ending"),
    [
        (["sh", "-c", "exit 0"], "exit status 0"),
        (["sh", "-c", "exit 7"], "exit status 7"),
        (["sh", "-c", "kill -SEGV $$"], "killed by SIGSEGV"),
        (["sh", "-c", "kill -TERM $$"], "killed by SIGTERM"),
    ],
)
def test_it_ends_as_its_engine_has_ended(tmp_path: Path, command: list[str], ending: str) -> None:
    child = ShimmedProcess(command, tmp_path / "output")
    child.start()
    eventually(lambda: not child.alive())
    assert child.exit_reason == ending
    child.stop()


def test_a_program_that_is_none_says_so_in_the_output(tmp_path: Path) -> None:
    program = tmp_path / "engine"
    program.write_bytes(b"\x7fELF no more")
    program.chmod(0o755)
    child = ShimmedProcess([str(program)], tmp_path / "output")
    child.start()
    eventually(lambda: not child.alive())
    assert child.exit_reason == f"exit status {CANNOT_RUN}"
    assert f"{program}: Exec format error" in (tmp_path / "output").read_text()
    child.stop()


def test_a_missing_command_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-engine"):
        ShimmedProcess([str(tmp_path / "no-such-engine")], tmp_path / "output").start()


def test_a_command_is_searched_in_the_path_of_its_environment(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "engine"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    child = ShimmedProcess(["engine"], tmp_path / "output", {"PATH": f"{program.parent}:/bin:/usr/bin"})
    child.start()
    eventually(lambda: not child.alive())
    assert (tmp_path / "output").read_text() == "found\n"
    child.stop()


def test_no_list_of_processes_shows_the_command_of_the_engine_twice(tmp_path: Path) -> None:
    child = ShimmedProcess(["sleep", "3600"], tmp_path / "output")
    child.start()
    assert b"3600" not in Path(f"/proc/{child.pid}/cmdline").read_bytes()
    child.stop()


def test_an_engine_reads_nothing_and_has_the_default_signals(tmp_path: Path) -> None:
    # Python ignores SIGPIPE, which a program of the engine's would inherit.
    child = ShimmedProcess(["sh", "-c", "cat; grep SigIgn /proc/self/status"], tmp_path / "output")
    child.start()
    eventually(lambda: not child.alive())
    ignored = int((tmp_path / "output").read_text().split()[1], 16)
    assert ignored & (1 << (signal.SIGPIPE - 1)) == 0
    child.stop()
