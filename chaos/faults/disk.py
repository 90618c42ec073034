"""Disks that are full: for batches, artifacts, logs, and the broker's own file."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from functools import partial
from pathlib import Path

from chaos.disks import DISKS
from chaos.faults import BREAKS, ENDS, REFUSES, Fault
from chaos.system import System

#: Seconds for which a disk is full.
FULL_S = 5.0


def fill(name: str, system: System) -> None:
    """Fill a disk to its last byte, and make room again."""
    ballast = system.inside(Path(DISKS[name].folder(system.home))) / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            until = time.monotonic() + FULL_S
            while time.monotonic() < until:
                with contextlib.suppress(OSError):
                    _fill_up(file.fileno())
                time.sleep(0.05)
    finally:
        ballast.unlink()
        system.harm_done()


def _fill_up(number: int) -> None:
    """Write until there is no room. Raises OSError (ENOSPC)."""
    size = 65536
    while True:
        try:
            os.write(number, bytes(size))
        except OSError as error:
            if error.errno != errno.ENOSPC or size == 1:
                raise
            size //= 2


FAULTS = [
    Fault(f"{name} disk full", "disk", f"the disk of {disk.what} is full for {FULL_S:g} s", partial(fill, name),
          env={"CHAOS_DISKS": "true"}, permits=permits)
    for (name, disk), permits in zip(DISKS.items(), (
        frozenset[str](),
        REFUSES | ENDS | {"task failed"},
        frozenset[str](),
        BREAKS | REFUSES | ENDS,
    ), strict=True)
]  # fmt: skip
