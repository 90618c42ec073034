"""One child process of a worker: started, logged, stopped, and never left behind."""

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

logger = logging.getLogger(__name__)

#: Seconds a child gets between SIGTERM and SIGKILL, and a keeper to see to both.
TERM_GRACE_S, KEEPER_S = 3.0, 3.0
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


def rotated(output: Path) -> Path:
    """Return where output is put aside."""
    return output.with_suffix(".log.1")


class ChildProcess:
    """A process that dies with its owner; its output goes to a file. What it starts itself is its own affair."""

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
            self._process = self._spawn(list(command or ()), output)
        logger.info("engine process started", extra={"pid": self._process.pid, "output": self._output})

    def _spawn(self, command: list[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            env=self._environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            # The terminal's Ctrl-C is for the worker, which stops it after its last task.
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 (one resolved C call; a thread's lock is no matter)
        )

    def rotate(self) -> None:
        """Put its output aside once it is long; the process goes on writing to the same, then empty, file."""
        try:
            if self._output.stat().st_size <= OUTPUT_BYTES:
                return
            aside = rotated(self._output)
            part = aside.with_name(f"{aside.name}.part")
            shutil.copyfile(self._output, part)
            # It was opened for appending, so the next line comes at the new end.
            os.truncate(self._output, 0)
            # Last: whoever follows goes on in this file when it has its name.
            part.replace(aside)
        except OSError as error:
            logger.warning("engine output cannot be rotated", extra={"reason": error})

    def alive(self) -> bool:
        """Tell whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def ending(self) -> str:
        """Return how it has ended, as ``exit status 1`` or ``killed by SIGKILL``; '' while it runs."""
        code = self._process.poll() if self._process is not None else None
        if code is None:
            return ""
        if code >= 0:
            return f"exit status {code}"
        # A real-time signal has no name.
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
        return f"killed by signal {-code}"

    def stop(self) -> None:
        """Stop it: SIGTERM, then SIGKILL; returns when it is gone."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(self._patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._clear_up(self._process)
        logger.info("engine process stopped", extra={"pid": self._process.pid, "status": self._process.returncode})
        self._process = None

    @property
    def _patience_s(self) -> float:
        return TERM_GRACE_S

    def _clear_up(self, process: subprocess.Popen[bytes]) -> None:
        """See to what an ended process has left."""


class ShimmedProcess(ChildProcess):
    """A process behind a keeper: it ends with its owner, and so does all that it has started."""

    def _spawn(self, command: list[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
        path = self._environment.get("PATH") if self._environment is not None else None
        if not command or shutil.which(command[0], path=path) is None:
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
    def _patience_s(self) -> float:
        return TERM_GRACE_S + KEEPER_S

    def _clear_up(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is not None:
            process.stdin.close()
        if process.returncode == -signal.SIGKILL:
            # Maybe the keeper's own end, not its engine's: what is left of their group goes too.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
