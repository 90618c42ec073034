"""The output of all processes on one terminal: each line with the time and the name of its process."""

from __future__ import annotations

import os
import selectors
import shutil
import sys
import threading
import time
from contextlib import suppress
from typing import IO

from graycat.loops.threads import GuardedThread
from graycat.loops.unexpected import guarded
from graycat.redaction.terminal import CLEAR_LINE, one_line, printable

#: Colours of the names on a terminal, in turn (ANSI).
COLOURS = ("36", "33", "32", "35", "34", "31", "96", "93", "92", "95")
READ_BYTES = 65536
#: A line that is longer is printed in pieces of this many bytes.
MAX_LINE_BYTES = 1 << 20


class OutputPrinter:
    """Reads the pipes of all processes in one thread, and prints whole lines."""

    def __init__(self, names: list[str], target: IO[str] | None = None) -> None:
        self._target = target if target is not None else sys.stdout
        self._width = max((len(name) for name in names), default=0)
        self._colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
        #: Whether somebody looks at a terminal: names have colours there, and the last line may be written anew.
        self.is_terminal = self._target.isatty()
        self._live = ""
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._added: list[tuple[str, IO[bytes]]] = []
        self._rests: dict[int, bytes] = {}
        self._loop = GuardedThread("output", self._run)
        self._loop.start()

    def add(self, name: str, pipe: IO[bytes]) -> None:
        """Print what comes out of a pipe until its other end is closed."""
        with self._lock:
            self._added.append((name, pipe))
        os.write(self._wake_write, b"+")

    def say(self, name: str, line: str) -> None:
        """Print one line as if a process had said it."""
        clock = time.strftime("%H:%M:%S")
        head = f"{clock} {name:{self._width}} | "
        if self.is_terminal:
            head = f"\033[0;{self._colours.get(name, '0')}m{head}\033[0m"
        with self._lock:
            self._write(f"{self._clear_live()}{head}{printable(line)}\n{self._live}")

    def say_text(self, text: str) -> None:
        """Print lines that are nobody's."""
        with self._lock:
            self._write(f"{self._clear_live()}{printable(text)}\n{self._live}")

    def show_live(self, text: str) -> None:
        """Show a text below all lines, in the place of the one before; '' for none. Only on a terminal."""
        if not self.is_terminal:
            return
        # A longer line would be two, of which one would stay.
        text = one_line(text)[: shutil.get_terminal_size().columns - 1]
        with self._lock:
            if text != self._live:
                self._write(f"{self._clear_live()}{text}")
                self._live = text

    def _clear_live(self) -> str:
        return CLEAR_LINE if self._live else ""

    def _write(self, text: str) -> None:
        # A terminal that is gone must not end the supervisor.
        with suppress(OSError, ValueError):
            self._target.write(text)
            self._target.flush()

    def _run(self) -> None:
        while True:
            self._loop.rest()
            ready = self._selector.select()
            self._loop.beat()
            for key, _ in ready:
                if key.fd == self._wake_read:
                    os.read(self._wake_read, READ_BYTES)
                    self._register_added()
                    continue
                pipe: IO[bytes] = key.fileobj  # type: ignore[assignment]
                # A pipe that cannot be read would be ready for ever.
                with guarded("output", set_aside=lambda _, pipe=pipe: self._drop(pipe)):  # type: ignore[misc]
                    self._read(key.data, pipe)

    def _register_added(self) -> None:
        with self._lock:
            added, self._added = self._added, []
        for name, pipe in added:
            self._rests[pipe.fileno()] = b""
            self._selector.register(pipe, selectors.EVENT_READ, name)

    def _read(self, name: str, pipe: IO[bytes]) -> None:
        number = pipe.fileno()
        data = os.read(number, READ_BYTES)
        rest = self._rests[number] + data
        *lines, rest = rest.split(b"\n")
        if rest and (not data or len(rest) > MAX_LINE_BYTES):
            lines.append(rest)
            rest = b""
        self._rests[number] = rest
        for line in lines:
            self.say(name, line.decode(errors="replace").rstrip("\r"))
        if not data:
            self._drop(pipe)

    def _drop(self, pipe: IO[bytes]) -> None:
        """Read no more from a pipe."""
        self._selector.unregister(pipe)
        del self._rests[pipe.fileno()]
        pipe.close()
