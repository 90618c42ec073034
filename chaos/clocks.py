"""Clocks that go wrong: each process of graycat reads the time from a clock of its own, which the harness sets.

libfaketime does it, without a change of graycat or of this machine's clock. Debian's package is ``libfaketime``.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from graycat.supervision.specs import PROCESSES

#: Where Debian's package has it, and a variable that names it elsewhere.
PLACES = ("/usr/lib", "/usr/local/lib", "/lib")
VARIABLE = "CHAOS_LIBFAKETIME"


def library() -> Path | None:
    """Return libfaketime for programs with threads; None if it is not installed."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    for place in PLACES:
        found = sorted(Path(place).glob("**/faketime/libfaketimeMT.so.1"))
        if found:
            return found[0]
    return None


def clock_file(home: Path, part: str) -> Path:
    """Return the file that a process reads its clock's offset from."""
    return home / "clocks" / part


def set_clock(home: Path, part: str, offset_s: int) -> None:
    """Set a process's clock: so many seconds from this machine's."""
    path = clock_file(home, part)
    path.parent.mkdir(exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(f"{offset_s:+d}s\n")
    unfinished.replace(path)


def procfile(home: Path, faketime: Path) -> Path:
    """Write a Procfile in which every process of Python has a clock; return it. The broker keeps this machine's."""
    lines = []
    for process in PROCESSES:
        if process.name == "exporter":
            continue
        command = process.command
        if process.name != "broker":
            set_clock(home, process.name, 0)
            words = {
                "LD_PRELOAD": str(faketime),
                "FAKETIME_TIMESTAMP_FILE": str(clock_file(home, process.name)),
                "FAKETIME_CACHE_DURATION": "1",
                # What waits and measures goes by the monotonic clock, which nobody can set.
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "DONT_FAKE_MONOTONIC": "1",
                "NO_FAKE_STAT": "1",
            }
            command = "env " + shlex.join(f"{name}={value}" for name, value in words.items()) + " " + command
        lines.append(f"{process.name}: {command}\n")
    path = home / "Procfile"
    path.write_text("".join(lines))
    return path
