"""When schedules must fire, worked out minute by minute from the calendar alone: the oracle of the simulated day."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

MINUTE_S = 60
#: A time that has been due for longer was missed (docs/schedules.md).
MISSED_AFTER_S = 60


@dataclass
class Plan:
    """A schedule of the day, and which of its times must have become batches so far."""

    name: str
    cron: str
    timezone: str
    missed: str
    jitter_s: int = 0
    images: int = 1
    #: Nominal times (seconds of the epoch) that no process has looked at yet, and that must have been fired.
    pending: list[int] = field(default_factory=list)
    fired: list[int] = field(default_factory=list)

    def begin(self, begin: int, end: int) -> None:
        """Work out the nominal times of a span; the end is not part of it."""
        self.pending = list(nominal_times(self.cron, self.timezone, begin, end))
        self.fired = []

    def document(self) -> dict[str, Any]:
        """Return the body of the request that adds it."""
        items = [f"{self.name} {number}" for number in range(self.images)]
        spec = {"name": self.name, "items": items, "defaults": {"width": 8, "height": 8, "steps": 1}}
        fields = {"name": self.name, "cron": self.cron, "timezone": self.timezone, "missed": self.missed}
        return {**fields, "jitter_s": self.jitter_s, "overlap": "allow", "spec": spec}

    def due_at(self, time: int) -> int:
        """Return when a nominal time is due in any case."""
        return time + self.jitter_s

    def newest_due(self, now: int) -> int:
        """Return the newest nominal time that is due; 0 if none of those that nobody has looked at is."""
        return max((time for time in self.pending if self.due_at(time) <= now), default=0)

    def serve(self, now: int) -> None:
        """Note that what is due has been looked at, by the rule for missed times."""
        due = [time for time in self.pending if self.due_at(time) <= now]
        late = [time for time in due if self.due_at(time) < now - MISSED_AFTER_S]
        self.pending = [time for time in self.pending if time not in due]
        if self.missed == "once" and late:
            self.fired.append(max(due))
        elif self.missed == "skip":
            self.fired += [time for time in due if time not in late]
        else:
            self.fired += due


def nominal_times(cron: str, timezone: str, begin: int, end: int) -> Iterator[int]:
    """Yield the times of an expression after ``begin`` and before ``end``, as Debian's cron has them."""
    fields, zone = cron.split(), ZoneInfo(timezone)
    follows_the_wall = any(text.startswith("*") for text in fields[:2])
    first = begin - begin % MINUTE_S + MINUTE_S
    for time in range(first, end, MINUTE_S):
        now, before = datetime.fromtimestamp(time, zone), datetime.fromtimestamp(time - MINUTE_S, zone)
        if follows_the_wall:
            if _matches(fields, now):
                yield time
            continue
        # A fixed time that comes twice comes the first time; one that does not exist comes behind the gap.
        skipped = _skipped_minutes(before, now)
        if any(_matches(fields, minute) for minute in skipped) or (now.fold == 0 and _matches(fields, now)):
            yield time


def _skipped_minutes(before: datetime, now: datetime) -> list[datetime]:
    """Return the minutes on the wall between two moments that are a minute apart."""
    gap = now.replace(tzinfo=None) - before.replace(tzinfo=None) - timedelta(minutes=1)
    count = max(int(gap.total_seconds()) // MINUTE_S, 0)
    return [before.replace(tzinfo=None) + timedelta(minutes=number + 1) for number in range(count)]


def _matches(fields: Sequence[str], moment: datetime) -> bool:
    """Return whether minute and hour match; the plans leave the other fields open."""
    return _field_matches(fields[0], moment.minute) and _field_matches(fields[1], moment.hour)


def _field_matches(text: str, value: int) -> bool:
    if text == "*":
        return True
    if text.startswith("*/"):
        return value % int(text[2:]) == 0
    return value in [int(part) for part in text.split(",")]


def key_time(key: str) -> int:
    """Return the nominal time in a batch's key: ``schedule/nightly/20270115T000000Z``."""
    return int(datetime.strptime(key.rpartition("/")[2], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp())


def show(time: int) -> str:
    """Return a time for people."""
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M}Z"
