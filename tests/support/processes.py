"""Processes as tests see them: what they print, who their parent is, and waiting without sleeping."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeVar

T = TypeVar("T")

#: Seconds that anything gets which takes a second or two on an idle machine. It measures no promise of graycat's.
SLACK_S = 120.0


def eventually(predicate: Callable[[], T], timeout_s: float, every_s: float = 0.05) -> T:
    """Return the result of ``predicate`` as soon as it is true. Raises AssertionError if that takes too long."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not (value := predicate()):
        assert time.monotonic() < deadline, f"not so within {timeout_s:g} s: {predicate}"
        pause.wait(every_s)
    return value


def quickly(call: Callable[[], T], limit_s: float, tries: int = 5) -> T:
    """Return what ``call`` returns, the first time that it takes less than ``limit_s``.

    A busy machine holds up one call or another; what waits for something is slow each time. Raises AssertionError if
    all ``tries`` are slow.
    """
    took_s = []
    for _ in range(tries):
        started = time.monotonic()
        value = call()
        took_s.append(time.monotonic() - started)
        if took_s[-1] < limit_s:
            return value
    raise AssertionError(f"never quicker than {limit_s:g} s: {took_s}")


def assert_stays(predicate: Callable[[], object], duration_s: float, every_s: float = 0.1) -> None:
    """Check that ``predicate`` is true all the time."""
    deadline = time.monotonic() + duration_s
    pause = threading.Event()
    while time.monotonic() < deadline:
        assert predicate(), f"no longer so: {predicate}"
        pause.wait(every_s)


class Output:
    """What a process has printed so far, read as it comes."""

    def __init__(self, pipe: IO[str]) -> None:
        self._pipe = pipe
        self._lines: list[str] = []
        self._ended = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._pipe:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def text(self) -> str:
        """Return all of it."""
        with self._news:
            return "".join(self._lines)

    def wait_for(self, text: str, timeout_s: float) -> None:
        """Return when a line with ``text`` has come."""

        def settled() -> bool:
            return self._ended or any(text in line for line in self._lines)

        with self._news:
            assert self._news.wait_for(settled, timeout_s), f"no {text!r} within {timeout_s:g} s:\n{self.text}"
        assert text in self.text, f"ended without {text!r}:\n{self.text}"

    def close(self, timeout_s: float) -> None:
        """Read to the end, which comes when the last process that holds the pipe is gone."""
        self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self._pipe.close()


def parent_of(pid: int) -> int:
    """Return a process's parent; 0 where it is gone."""
    try:
        # The name in brackets may hold anything but the last bracket.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
