"""Python runs this first in processes that have their clock from libfaketime, if this folder is on its path.

``time.sleep`` waits with ``clock_nanosleep`` since Python 3.11. If libfaketime leaves the monotonic clock alone, it
refuses that call, so every sleep would raise OSError (libfaketime 0.9.10).
"""

from __future__ import annotations

import select
import time


def sleep(seconds: float) -> None:
    """Wait by another call."""
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    select.select([], [], [], seconds)


time.sleep = sleep  # type: ignore[assignment]
