"""Times of day in which a batch may start items: pure arithmetic over time zones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]|24):([0-5]\d)", re.ASCII)
_DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class Window:
    """From one minute of the day to another, by the clocks of a time zone; it may reach over midnight."""

    begin: int
    end: int
    timezone: str

    @classmethod
    def parse(cls, text: str, timezone: str) -> Window:
        """Return the window that ``01:00-06:00`` means. Raises ValueError, also for an unknown time zone."""
        found = _WINDOW.fullmatch(text)
        if found is None:
            raise ValueError("must be like 01:00-06:00")
        first, last = (int(found[n]) * 60 + int(found[n + 1]) for n in (1, 3))
        if first == last or last > _DAY_MINUTES:
            raise ValueError("must be like 01:00-06:00, and not empty")
        zone(timezone)
        return cls(first, last, timezone)

    def is_open(self, now_s: float) -> bool:
        """Tell whether a moment (seconds since 1970) lies within."""
        at = datetime.fromtimestamp(now_s, UTC).astimezone(zone(self.timezone))
        minute = at.hour * 60 + at.minute
        if self.begin < self.end:
            return self.begin <= minute < self.end
        return minute >= self.begin or minute < self.end

    def __str__(self) -> str:
        first, last = (f"{minute // 60:02}:{minute % 60:02}" for minute in (self.begin, self.end))
        return f"{first}-{last} {self.timezone}"


def zone(name: str) -> ZoneInfo:
    """Return a time zone. Raises ValueError for an unknown one."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        raise ValueError(f"there is no time zone {name[:60]!r}; they are like Europe/Berlin, or UTC") from None
