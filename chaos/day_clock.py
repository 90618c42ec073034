"""One clock for all processes, the broker too, which the harness sets: libfaketime has it.

The clock of Python alone (``chaos.clocks``) is not enough here: the broker's time decides which schedules are due.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.support.stack import ROOT

#: Where Debian's package ``libfaketime`` has it, and a variable that names it elsewhere.
PLACES = ("/usr/lib", "/usr/local/lib", "/lib")
VARIABLE = "CHAOS_LIBFAKETIME"
#: Has ``time.sleep`` work under it.
SLEEP_FIX = Path(__file__).with_name("faketime_sleep")


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


class DayClock:
    """A clock that is so many seconds ahead of this machine's."""

    def __init__(self, home: Path, faketime: Path) -> None:
        self._file = home / "clock"
        self._offset_s = 0
        words = {
            "LD_PRELOAD": str(faketime),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            # Each look at the clock reads the file, so that all processes agree at once.
            "FAKETIME_NO_CACHE": "1",
            # What waits and measures goes by the monotonic clock, which nobody can set.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
            "PYTHONPATH": f"{SLEEP_FIX}:{ROOT}",
        }
        #: What a command begins with that is to have this clock.
        self.prefix = ["env", *(f"{name}={value}" for name, value in words.items())]

    def set(self, to: int) -> None:
        """Move the clock of all processes (seconds of the epoch)."""
        self._offset_s = to - int(time.time())
        unfinished = self._file.with_suffix(".part")
        unfinished.write_text(f"{self._offset_s:+d}s\n")
        unfinished.replace(self._file)

    def now(self) -> int:
        """Return the simulated time."""
        return int(time.time()) + self._offset_s
