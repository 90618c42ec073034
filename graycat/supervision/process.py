"""One supervised process: started, and started again with back-off when it ends without having been asked to."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import IO

from graycat.engines.process.child import die_with_parent
from graycat.fleet.processes import ProcessStatus
from graycat.settings import NOTIFY_VARIABLE
from graycat.supervision.specs import ProcessSpec

#: Seconds before the first restart in a row, doubled for each further one, up to the last.
FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.5, 30.0
#: A process that has run for this many seconds has its failures forgotten.
RESET_AFTER_S = 60.0
#: Failures in a row that are a crash loop.
CRASH_LOOP_FAILURES = 3


class ProcessState(StrEnum):
    """Where a supervised process is in its life."""

    RUNNING = "running"
    #: It has ended, and is started again in a moment.
    BACKING_OFF = "backing off"
    #: It has failed several times in a row. It is still started again, at most every LAST_BACKOFF_S seconds.
    CRASH_LOOP = "crash loop"
    #: An operator has drained it.
    DRAINED = "drained"
    #: It was stopped together with all others.
    STOPPED = "stopped"


class SupervisedProcess:
    """Drives one process through its states. ``step`` never waits; its caller keeps the clock (seconds).

    All calls come from one thread, which must live as long as the process: the kernel stops a child whose parent thread
    has ended.
    """

    def __init__(
        self, spec: ProcessSpec, environment: Mapping[str, str], attach_output: Callable[[str, IO[bytes]], None]
    ) -> None:
        """``attach_output``: gets the name and the pipe of each start; it reads the pipe to its end and closes it."""
        self.spec = spec
        self.state = ProcessState.BACKING_OFF
        #: How often it was started again after a failure.
        self.restarts = 0
        #: How it ended last; '' if it never has.
        self.last_end = ""
        # Whoever supervises the supervisor is not told of its processes.
        self._environment = {name: value for name, value in environment.items() if name != NOTIFY_VARIABLE}
        self._attach_output = attach_output
        self._popen: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._start_at = 0.0
        self._started_at = 0.0
        self._stopping = False

    def notify_at(self, path: Path) -> None:
        """Have it send what it says of itself to a socket, from its next start on."""
        self._environment[NOTIFY_VARIABLE] = str(path)

    @property
    def pid(self) -> int | None:
        """Return its process id; None if it does not run."""
        if self._popen is None:
            return None
        return self._popen.pid

    @property
    def gone(self) -> bool:
        """Return whether it does not run."""
        return self._popen is None

    def step(self, now: float) -> bool:
        """Notice that it has ended, or start it if that is due; return whether it was started."""
        if self._popen is not None:
            status = self._popen.poll()
            if status is not None:
                self._ended(status, now)
            elif now - self._started_at >= RESET_AFTER_S:
                self._failures = 0
            return False
        due = self.state in (ProcessState.BACKING_OFF, ProcessState.CRASH_LOOP) and now >= self._start_at
        if due and not self._stopping:
            self._start(now)
            return self._popen is not None
        return False

    def retry_in_s(self, now: float) -> float:
        """Return the seconds until it is started again; 0 if it runs or is not started again."""
        if self.state in (ProcessState.BACKING_OFF, ProcessState.CRASH_LOOP):
            return max(self._start_at - now, 0.0)
        return 0.0

    def stop(self) -> None:
        """Ask it to stop (SIGTERM); it is not started again."""
        self._stopping = True
        if self._popen is None:
            self.state = ProcessState.STOPPED
        else:
            with contextlib.suppress(ProcessLookupError):
                self._popen.terminate()

    def kill(self) -> None:
        """End it and all that it has started in its session (SIGKILL)."""
        if self._popen is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)

    def _start(self, now: float) -> None:
        self._started_at = now
        if self.last_end:
            self.restarts += 1
        try:
            self._popen = subprocess.Popen(
                shlex.split(self.spec.command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self._environment,
                # Ctrl-C on the terminal reaches the supervisor alone, which then stops the others in order.
                start_new_session=True,
                # If the supervisor is killed, the process is asked to stop, so that it can finish what it does.
                preexec_fn=partial(die_with_parent, signal.SIGTERM),  # noqa: PLW1509 (one resolved C call)
            )
        except OSError as error:
            self._failed(f"it cannot be started ({error.strerror or error})", now)
            return
        if self._popen.stdout is not None:
            self._attach_output(self.spec.name, self._popen.stdout)
        self.state = ProcessState.RUNNING

    def _ended(self, status: int, now: float) -> None:
        self._popen = None
        if self._stopping:
            self.state = ProcessState.STOPPED
            self.last_end = describe_end(status)
        elif status == 0 and self.spec.drainable:
            self.state = ProcessState.DRAINED
            self.last_end = "it was drained"
        else:
            self._failed(describe_end(status), now)

    def _failed(self, reason: str, now: float) -> None:
        if now - self._started_at >= RESET_AFTER_S:
            self._failures = 0
        self.last_end = reason
        self._start_at = now + min(FIRST_BACKOFF_S * 2**self._failures, LAST_BACKOFF_S)
        self._failures += 1
        if self._failures >= CRASH_LOOP_FAILURES:
            self.state = ProcessState.CRASH_LOOP
        else:
            self.state = ProcessState.BACKING_OFF

    def status(self, now: float) -> ProcessStatus:
        """Return what operators are told of it."""
        return ProcessStatus(
            name=self.spec.name,
            state=self.state.value,
            pid=self.pid,
            restarts=self.restarts,
            last_end=self.last_end,
            retry_in_s=round(self.retry_in_s(now), 1),
        )


def describe_end(status: int) -> str:
    """Return how a process has ended, in words, by its ``returncode``."""
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-status).name}"
    # A real-time signal has no name.
    return f"killed by signal {-status}"
