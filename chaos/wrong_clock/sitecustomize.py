"""Gives a process of Python a clock that the harness sets: Python loads this file if its folder is on PYTHONPATH.

``time.time``, ``time.time_ns`` and ``datetime.now`` are as many seconds off as the file says that CHAOS_CLOCK names.
What waits and measures goes by the monotonic clock, which nobody can set, here as elsewhere.

Weighed and not taken: libfaketime 0.9.10. With the monotonic clock left alone, ``time.sleep`` of Python 3.11 ends with
EINVAL under it.
"""

from __future__ import annotations

import datetime as datetime_module
import os
import time
from datetime import datetime as _datetime
from typing import Any

#: Seconds between two looks at the file.
LOOK_S = 0.2
_PATH = os.environ["CHAOS_CLOCK"]
_time, _time_ns, _monotonic = time.time, time.time_ns, time.monotonic


class _Offset:
    """How far the clock is off, read now and then."""

    def __init__(self) -> None:
        self._seconds = 0
        self._looks_at = 0.0

    def __call__(self) -> int:
        now = _monotonic()
        if now >= self._looks_at:
            self._looks_at = now + LOOK_S
            try:
                with open(_PATH, encoding="ascii") as file:
                    self._seconds = int(file.read())
            except (OSError, ValueError):
                # It is being written, or its folder is gone with the system.
                return self._seconds
        return self._seconds


_offset = _Offset()


class _Checks(type):
    """Any datetime is one of these, whoever has made it."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _datetime)


class ShiftedDatetime(_datetime, metaclass=_Checks):
    """A datetime whose now is that of the wrong clock."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        """Return the time of the wrong clock."""
        return cls.fromtimestamp(_time() + _offset(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        """Return the same in UTC, without a zone."""
        return cls.now(datetime_module.UTC).replace(tzinfo=None)


time.time = lambda: _time() + _offset()
time.time_ns = lambda: _time_ns() + _offset() * 1_000_000_000
datetime_module.datetime = ShiftedDatetime  # type: ignore[misc]
