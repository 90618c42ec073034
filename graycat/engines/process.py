"""One child process of a worker: started, logged, stopped, and never left behind."""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

#: Seconds a child gets between SIGTERM and SIGKILL.
TERM_GRACE_S = 3.0
#: Output beyond this goes to a second file, which the next rotation replaces.
OUTPUT_BYTES = 16 * 1024 * 1024

#: A process's arguments, or what returns them when it is to start.
Command = Sequence[str] | Callable[[], Sequence[str] | None]

_PR_SET_PDEATHSIG = 1
#: Looked up here, so that nothing but the call itself happens between fork and exec.
_prctl = getattr(ctypes.CDLL(None), "prctl", None)


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when the **thread** that forked it ends, however it ends (Linux).

    So the thread that starts a child must live as long as the child should.
    """
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, number)


class ChildProcess:
    """A process that dies with its owner; its output goes to a file."""

    def __init__(self, command: Command, output: Path, environment: Mapping[str, str] | None = None) -> None:
        """``environment``: the process's own, None for ours."""
        self._command = command
        self._output = output
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Return the process id; None when it does not run."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start it. Raises OSError where the command cannot be run."""
        command = self._command() if callable(self._command) else self._command
        self._output.parent.mkdir(parents=True, exist_ok=True)
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                list(command or ()),
                stdin=subprocess.DEVNULL,
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                # The terminal's Ctrl-C is for the worker, which stops it after its last task.
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 (one resolved C call; a thread's lock is no matter)
            )
        logger.info("engine process started", extra={"pid": self._process.pid, "output": self._output})

    def rotate(self) -> None:
        """Put its output aside once it is long; the process goes on writing to the same, then empty, file."""
        try:
            if self._output.stat().st_size <= OUTPUT_BYTES:
                return
            shutil.copyfile(self._output, self._output.with_suffix(".log.1"))
            # It was opened for appending, so the next line comes at the new end.
            os.truncate(self._output, 0)
        except OSError as error:
            logger.warning("engine output cannot be rotated", extra={"reason": error})

    def alive(self) -> bool:
        """Tell whether it runs."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Stop it: SIGTERM, then SIGKILL; returns when it is gone."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(TERM_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        logger.info("engine process stopped", extra={"pid": self._process.pid, "status": self._process.returncode})
        self._process = None
