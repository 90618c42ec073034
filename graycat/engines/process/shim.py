"""A process between a worker and its engine: however the one or the other ends, nothing of the engine is left.

Run by its path and without site-packages, so it starts within milliseconds and imports nothing of graycat's. Standard
input brings ``{"command": [...], "grace_s": 3.0}`` as one line, which no list of processes shows, and then stays open:
its end means that the owner is gone, also by SIGKILL, and everything is killed. SIGTERM ends the engine with a grace.

Start commands are often scripts, and what those start is no child of ours: so orphans among the descendants become
children of this process (a *subreaper*, Linux), where a new session or a second fork hides none of them.
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
#: Seconds between two looks at processes that were told to end, and the longest that killed ones are waited for: a
#: driver may hold one in the kernel.
LOOK_EVERY_S, GONE_S = 0.02, 2.0
#: How a shell tells of a command that cannot be run.
CANNOT_RUN = 127


def descendants() -> list[int]:
    """Return the ids of all processes below this one that have not ended."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                # The name in brackets may hold anything but the last bracket.
                state, parent = file.read().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state not in "ZX":
            children.setdefault(int(parent), []).append(int(name))
    found: list[int] = []
    parents = [os.getpid()]
    while parents:
        below = children.get(parents.pop(), [])
        found += below
        parents += below
    return found


def signal_all(number: int) -> bool:
    """Send a signal to everything below this process; tell whether there was anything."""
    found = descendants()
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return bool(found)


class EngineShim:
    """One engine and all that it has started."""

    def __init__(self, command: list[str], grace_s: float) -> None:
        self._grace_s = grace_s
        #: The engine's own wait status, once it has ended.
        self.status: int | None = None
        self._wake, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, self._note)
        self._told = False
        self._pid = _start(command)

    def _note(self, number: int, _frame: object) -> None:
        self._told = self._told or number == signal.SIGTERM

    def run(self) -> None:
        """Return when nothing of the engine is left."""
        orphaned = False
        while self.status is None and not self._told and not orphaned:
            readable, _, _ = select.select([sys.stdin.fileno(), self._wake], [], [])
            orphaned = sys.stdin.fileno() in readable and not os.read(sys.stdin.fileno(), 4096)
            if self._wake in readable:
                os.read(self._wake, 4096)
            self._reap()
        if self._told and not orphaned:
            self._end_gently()
        deadline = time.monotonic() + GONE_S
        while signal_all(signal.SIGKILL) and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)
            self._reap()
        self._reap()

    def _end_gently(self) -> None:
        signal_all(signal.SIGTERM)
        deadline = time.monotonic() + self._grace_s
        while descendants() and time.monotonic() < deadline:
            readable, _, _ = select.select([sys.stdin.fileno()], [], [], LOOK_EVERY_S)
            if readable and not os.read(sys.stdin.fileno(), 4096):
                return
            self._reap()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                if pid == self._pid:
                    self.status = status


def _start(command: list[str]) -> int:
    ours = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.set_wakeup_fd(-1)
        # Python ignores these, and what is ignored stays so in the program that follows.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        if _prctl is not None:
            # The least for the case that this keeper itself is killed.
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == ours:
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.execvp(command[0], command)  # noqa: S606 (no shell is what is wanted)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.stderr.flush()
    os._exit(CANNOT_RUN)


def main() -> None:
    """Keep one engine; end as it has ended."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(sys.stdin.fileno(), 65536)
        if not piece:
            return
        line += piece
    if _prctl is not None:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    keeper = EngineShim(**json.loads(line))
    keeper.run()
    status = keeper.status if keeper.status is not None else signal.SIGKILL
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
