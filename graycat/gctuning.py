"""Tuning of the garbage collector: for the start of each process, and for those that serve requests."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: Collections of the younger generations after which a full one is due: Python's own number.
DUE_AFTER = 10
#: More than so many of them never come together, so no full collection begins by itself.
NEVER = 2**31 - 1
#: Bytes by which a process may grow before there is a full collection although it is busy.
MAX_GROWTH_BYTES = 256 * 1024 * 1024


def settle_memory() -> None:
    """Exclude everything that is loaded by now from garbage collection: it lives as long as the process.

    A full collection of a web process walks some hundred thousand objects. That takes tens of milliseconds in the
    middle of a stream, and empties the CPU caches that an engine on the same machine has filled.
    """
    gc.collect()
    gc.freeze()


@contextmanager
def without_collections() -> Iterator[None]:
    """Collect no garbage in the block, which loads modules or reads JSON.

    Modules stay for as long as the process, and there is no garbage among them: to look for it again and again while
    they become more takes an eighth of the time of a start. It takes half of the time that a big body is read in.
    """
    if not gc.isenabled():
        # Around another such block, or for as long as the process.
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def resident_bytes() -> int:
    """Return the memory that this process has now; 0 if the system does not tell: no Linux, or no file is left."""
    try:
        pages = Path("/proc/self/statm").read_bytes().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


class FullCollections:
    """The full collections of a process that serves requests: when nobody waits, or its memory grows too much.

    A full collection is one piece, in which no token is passed on: 100 ms of CPU with some thousand connections, which
    are no garbage. Nearly all garbage is made and found young: what a request leaves behind when it is answered. What
    only a full collection finds is some kB a second under attack.
    """

    def __init__(self, resident: Callable[[], int] = resident_bytes) -> None:
        self._resident = resident
        self._least_bytes = resident()
        if self._least_bytes:
            # Else nothing but Python's own threshold would bound the garbage of a process that is never idle.
            young, middle, _ = gc.get_threshold()
            gc.set_threshold(young, middle, NEVER)

    def look(self, *, is_idle: bool) -> None:
        """Collect if it is time to; ``is_idle``: nobody waits for anything."""
        # What is not known is no growth, and no least.
        now_bytes = self._resident() or self._least_bytes
        self._least_bytes = min(self._least_bytes, now_bytes)
        is_due = gc.get_count()[2] >= DUE_AFTER
        if (is_idle and is_due) or now_bytes - self._least_bytes > MAX_GROWTH_BYTES:
            gc.collect()
            self._least_bytes = self._resident() or now_bytes
