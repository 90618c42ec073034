"""One child process of a worker: started, its output rotated, stopped, and never left behind."""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from graycat.engines.process import shim
from graycat.engines.process.exits import explain_exit

logger = logging.getLogger(__name__)

#: Seconds between SIGTERM and SIGKILL, and the additional time that a shim needs to send both.
TERM_GRACE_S, SHIM_GRACE_S = 3.0, 3.0
#: Longer output is moved to a second file, which the next rotation overwrites.
MAX_OUTPUT_BYTES = 16 * 1024 * 1024

#: A process's arguments, or a function that returns them at its start.
Command = Sequence[str] | Callable[[], Sequence[str] | None]

_PR_SET_PDEATHSIG = 1
#: Looked up here, so that only the call itself happens between fork and exec.
_prctl = getattr(ctypes.CDLL(None), "prctl", None)


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when the **thread** that forked it ends in any way (Linux).

    So the thread that starts a child must live as long as the child should.
    """
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, number)


def rotated_path(output: Path) -> Path:
    """Return the path of the file with the older output."""
    return output.with_suffix(".log.1")


class ChildProcess:
    """A process that dies with its owner; its output goes to a file. Processes that it starts may survive it."""

    def __init__(self, command: Command, output: Path, environment: Mapping[str, str] | None = None) -> None:
        """``environment``: the variables of the process; None for those of this process."""
        self._command = command
        self._output = output
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        #: How long the output was when the process was started.
        self._output_begin = 0

    @property
    def pid(self) -> int | None:
        """Return the process id; None if it was not started."""
        if self._process is None:
            return None
        return self._process.pid

    def start(self) -> None:
        """Start the process. Raises OSError if the command cannot be run."""
        command = self._command
        arguments = command() if callable(command) else command
        self._output.parent.mkdir(parents=True, exist_ok=True)
        with self._output.open("ab") as output:
            self._output_begin = output.tell()
            self._process = self._spawn(list(arguments or ()), output)
        logger.debug("engine process started", extra={"pid": self._process.pid, "output": self._output})

    def _spawn(self, command: list[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            env=self._environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A terminal's Ctrl-C must reach the worker only, which stops the engine after its last task.
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 (one resolved C call, which takes no lock of another thread)
        )

    def rotate(self) -> None:
        """Move long output to a second file. The process continues to write to the same, then empty, file."""
        try:
            if self._output.stat().st_size <= MAX_OUTPUT_BYTES:
                return
            rotated = rotated_path(self._output)
            unfinished = rotated.with_name(f"{rotated.name}.part")
            shutil.copyfile(self._output, unfinished)
            # The process opened it for appending, so its next line is written at the new end.
            os.truncate(self._output, 0)
            # This comes last: a reader that follows the output switches to the second file when it gets its name.
            unfinished.replace(rotated)
        except OSError as error:
            logger.warning("engine output cannot be rotated", extra={"reason": error})

    def alive(self) -> bool:
        """Return whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_reason(self) -> str:
        """Return how the process ended, as ``exit status 1`` or ``killed by SIGKILL``; '' if it runs or never ran.

        A library or a package that it lacks is named.
        """
        if self._process is None:
            return ""
        code = self._process.poll()
        if code is None:
            return ""
        if code >= 0:
            reason = explain_exit(self._output, self._output_begin) if code > 0 else ""
            return ": ".join(filter(None, (f"exit status {code}", reason)))
        # Real-time signals have no name.
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
        return f"killed by signal {-code}"

    def stop(self) -> None:
        """Stop the process with SIGTERM, then with SIGKILL; returns when it has ended."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(self._stop_timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._clean_up(self._process)
        logger.debug("engine process stopped", extra={"pid": self._process.pid, "status": self._process.returncode})
        self._process = None

    @property
    def _stop_timeout_s(self) -> float:
        return TERM_GRACE_S

    def _clean_up(self, process: subprocess.Popen[bytes]) -> None:
        """Release what an ended process has left."""


class ShimmedProcess(ChildProcess):
    """A process below a shim (``shim.py``): it ends with its owner, and so do all processes that it has started."""

    def _spawn(self, command: list[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
        search_path = None
        if self._environment is not None:
            search_path = self._environment.get("PATH")
        if not command or shutil.which(command[0], path=search_path) is None:
            raise FileNotFoundError(2, os.strerror(2), *command[:1])

        process = subprocess.Popen(
            [sys.executable, "-I", "-S", shim.__file__],
            stdin=subprocess.PIPE,
            env=self._environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        if process.stdin is not None:
            process.stdin.write(json.dumps({"command": command, "grace_s": TERM_GRACE_S}).encode() + b"\n")
            process.stdin.flush()
        return process

    @property
    def _stop_timeout_s(self) -> float:
        return TERM_GRACE_S + SHIM_GRACE_S

    def _clean_up(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is not None:
            process.stdin.close()
        if process.returncode == -signal.SIGKILL:
            # Perhaps the shim itself was killed, and not its engine: kill what is left of their process group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
