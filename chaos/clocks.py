"""Clocks that go wrong: each process of graycat reads the time from a clock of its own, which the harness sets."""

from __future__ import annotations

import shlex
from pathlib import Path

from graycat.supervision.specs import PROCESSES
from tests.support.stack import ROOT

#: Python loads the clock from here.
FOLDER = Path(__file__).with_name("wrong_clock")


def clock_file(home: Path, part: str) -> Path:
    """Return the file that a process reads its clock's offset from."""
    return home / "clocks" / part


def set_clock(home: Path, part: str, offset_s: int) -> None:
    """Set a process's clock: so many seconds from this machine's."""
    path = clock_file(home, part)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(f"{offset_s}\n")
    unfinished.replace(path)


def procfile(home: Path) -> Path:
    """Write a Procfile in which every process has a clock; return it. The broker keeps this machine's."""
    lines = []
    for process in PROCESSES:
        if process.name == "exporter":
            continue
        command = process.command
        if process.name != "broker":
            set_clock(home, process.name, 0)
            words = (f"PYTHONPATH={FOLDER}:{ROOT}", f"CHAOS_CLOCK={clock_file(home, process.name)}")
            command = f"env {shlex.join(words)} {command}"
        lines.append(f"{process.name}: {command}\n")
    path = home / "Procfile"
    path.write_text("".join(lines))
    return path
