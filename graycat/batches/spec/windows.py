"""Windows: times of day in which a batch may start items. Pure arithmetic over time zones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from graycat.bounds.timezones import load_timezone

_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]|24):([0-5]\d)", re.ASCII)
_DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class Window:
    """From one minute of the day to another in a time zone. A window may cross midnight."""

    begin: int
    end: int
    timezone: str

    @classmethod
    def parse(cls, text: str, timezone: str) -> Window:
        """Return the window of a text like ``01:00-06:00``. Raises ValueError, also for an unknown time zone."""
        match = _WINDOW.fullmatch(text)
        if match is None:
            raise ValueError("must be like 01:00-06:00")
        begin = int(match[1]) * 60 + int(match[2])
        end = int(match[3]) * 60 + int(match[4])
        if begin == end or end > _DAY_MINUTES:
            raise ValueError("must be like 01:00-06:00, and not empty")
        load_timezone(timezone)
        return cls(begin, end, timezone)

    def is_open(self, now_s: float) -> bool:
        """Return whether a moment (seconds since 1970) is in the window."""
        at = datetime.fromtimestamp(now_s, UTC).astimezone(load_timezone(self.timezone))
        minute = at.hour * 60 + at.minute
        if self.begin < self.end:
            return self.begin <= minute < self.end
        return minute >= self.begin or minute < self.end

    def seconds_to_finish(self, now_s: float, needed_s: float) -> float:
        """Return the seconds until work of ``needed_s`` is done that goes on within the window alone.

        Days are counted with 24 hours.
        """
        at = datetime.fromtimestamp(now_s, UTC).astimezone(load_timezone(self.timezone))
        since_begin_s = (at.hour * 60 + at.minute - self.begin) % _DAY_MINUTES * 60 + at.second
        day_s, open_s = _DAY_MINUTES * 60, (self.end - self.begin) % _DAY_MINUTES * 60
        # A window from 00:00 to 24:00 never closes.
        open_s = open_s or day_s
        done_today_s = min(since_begin_s, open_s)
        days, rest_s = divmod(done_today_s + needed_s, open_s)
        if rest_s == 0 and days:
            days, rest_s = days - 1, float(open_s)
        return max(days * day_s + rest_s - since_begin_s, 0.0)

    def __str__(self) -> str:
        return f"{_clock_time(self.begin)}-{_clock_time(self.end)} {self.timezone}"


def _clock_time(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
