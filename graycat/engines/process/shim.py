"""A small process between a worker and its engine: if either of them ends, in any way, nothing of the engine is left.

It is run by its path and without site-packages, so it starts within milliseconds and imports nothing of graycat. Its
standard input brings ``{"command": [...], "grace_s": 3.0}`` as one line, because a command line would be visible in
every list of processes. After that the pipe stays open: if it closes, the owner is gone, perhaps by SIGKILL, and the
shim kills everything. On SIGTERM it stops the engine, and kills it after ``grace_s`` seconds.

Start commands are often scripts, and a script's processes are not our children. So the shim is a *subreaper* (Linux):
orphans among its descendants become its children, even if they have started a session of their own or forked twice.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
import time

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_prctl = getattr(ctypes.CDLL(None), "prctl", None)
#: Seconds between two checks whether the stopped processes have ended.
POLL_INTERVAL_S = 0.02
#: Seconds that killed processes get to end: a driver may hold one in the kernel.
KILL_TIMEOUT_S = 2.0
#: The exit status of a shell for a command that cannot be run.
CANNOT_RUN = 127


def descendants() -> list[int]:
    """Return the ids of all processes below this one that have not ended."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                # The process name stands in brackets, and may itself contain brackets.
                state, parent = file.read().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state not in "ZX":
            children.setdefault(int(parent), []).append(int(name))

    found: list[int] = []
    parents = [os.getpid()]
    while parents:
        pids = children.get(parents.pop(), [])
        found += pids
        parents += pids
    return found


def signal_all(number: int) -> bool:
    """Send a signal to all processes below this one; return whether there were any."""
    found = descendants()
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return bool(found)


class EngineShim:
    """One engine and all processes that it has started."""

    def __init__(self, command: list[str], grace_s: float) -> None:
        self._grace_s = grace_s
        #: The engine's wait status; None while it runs.
        self.status: int | None = None
        #: Whether SIGTERM has come.
        self._terminated = False
        self._wakeup_pipe, writing_end = os.pipe()
        os.set_blocking(writing_end, False)
        signal.set_wakeup_fd(writing_end)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, self._handle_signal)
        self._pid = _start(command)

    def _handle_signal(self, number: int, _frame: object) -> None:
        if number == signal.SIGTERM:
            self._terminated = True

    def run(self) -> None:
        """Return when no process of the engine is left."""
        orphaned = False
        while self.status is None and not self._terminated and not orphaned:
            readable, _, _ = select.select([sys.stdin.fileno(), self._wakeup_pipe], [], [])
            if sys.stdin.fileno() in readable:
                orphaned = self._owner_is_gone()
            if self._wakeup_pipe in readable:
                os.read(self._wakeup_pipe, 4096)
            self._reap()

        if self._terminated and not orphaned:
            self._terminate()

        deadline = time.monotonic() + KILL_TIMEOUT_S
        while signal_all(signal.SIGKILL) and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL_S)
            self._reap()
        self._reap()

    def _terminate(self) -> None:
        """Send SIGTERM; return when all processes have ended, the grace is over or the owner is gone."""
        signal_all(signal.SIGTERM)
        deadline = time.monotonic() + self._grace_s
        while descendants() and time.monotonic() < deadline:
            readable, _, _ = select.select([sys.stdin.fileno()], [], [], POLL_INTERVAL_S)
            if readable and self._owner_is_gone():
                return
            self._reap()

    def _owner_is_gone(self) -> bool:
        """Read the readable pipe; return whether its other end is closed."""
        return not os.read(sys.stdin.fileno(), 4096)

    def _reap(self) -> None:
        """Collect the exit statuses of ended children."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                if pid == self._pid:
                    self.status = status


def _start(command: list[str]) -> int:
    """Start the engine; return its process id."""
    shim_pid = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.set_wakeup_fd(-1)
        # Python ignores these signals, and a program started by exec would inherit that.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        if _prctl is not None:
            # The least that can be done in case this shim itself is killed.
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == shim_pid:
            no_input = os.open(os.devnull, os.O_RDONLY)
            os.dup2(no_input, 0)
            os.execvp(command[0], command)  # noqa: S606 (no shell is what is wanted)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.stderr.flush()
    os._exit(CANNOT_RUN)


def main() -> None:
    """Run one engine; end with its exit status, or by the signal that ended it."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(sys.stdin.fileno(), 65536)
        if not piece:
            return
        line += piece
    if _prctl is not None:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)

    shim = EngineShim(**json.loads(line))
    shim.run()
    status = shim.status
    if status is None:
        status = signal.SIGKILL
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
