"""Which times of a schedule are due: pure arithmetic, on whole seconds since 1970.

A *nominal time* is one that the cron expression names. It becomes due that many seconds later that its jitter says, and
each is dealt with once: it is among the times to fire, or among those that are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from graycat.schedules.errors import InvalidSchedule

#: What becomes of times that nobody was there to fire: nothing, one run for all of them, or a run for each.
SKIP, ONCE, ALL = MISSED = ("skip", "once", "all")
#: A time that is due for longer than this many seconds was missed.
LATE_S = 60
#: Times that are fired at once, at most; the others follow.
MOST_AT_ONCE = 50
#: Jitter, in seconds.
MAX_JITTER_S = 86_400
#: Short names of expressions, as other crons have them.
ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS, _MOST_CHARS = 5, 200


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression of five fields, or an alias, in a time zone. Raises InvalidSchedule.

    As Debian's cron: where clocks are put forward, a fixed time that does not exist comes right behind the gap; where
    they are put back, a fixed time comes once, the first time. Expressions whose minute or hour is a ``*`` follow the
    clock on the wall: no time in a gap, and both hours of a doubled one.
    """

    expression: str
    timezone: str
    _zone: ZoneInfo = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.expression) > _MOST_CHARS:
            raise InvalidSchedule(f"'cron' must have {_MOST_CHARS} characters at most")
        try:
            zone = ZoneInfo(self.timezone)
        except (ValueError, OSError, LookupError):
            raise InvalidSchedule(
                f"'timezone': there is no time zone {self.timezone[:100]!r}; one is called like Europe/Berlin, or UTC"
            ) from None
        object.__setattr__(self, "_zone", zone)
        if self.expression not in ALIASES and len(self.expression.split()) != _FIELDS:
            raise InvalidSchedule(
                f"'cron': {self.expression[:100]!r} must have {_FIELDS} fields, minute hour day month weekday, "
                f"or be one of {', '.join(ALIASES)}"
            )
        try:
            first = next(self.after(0), None)
        except CronSimError as error:
            reason = str(error)
            raise InvalidSchedule(f"'cron': {self.expression[:100]!r}: {reason[:1].lower()}{reason[1:]}") from None
        if first is None:
            raise InvalidSchedule(f"'cron': {self.expression[:100]!r} names a time that never comes")

    def after(self, moment: int) -> Iterator[int]:
        """Yield the nominal times after ``moment``, each once and in their order."""
        for found in self._simulation(moment):
            time = int(found.timestamp())
            # Where an hour comes twice, the library may begin again with its first pass.
            if time > moment:
                moment = time
                yield time

    def latest(self, moment: int) -> int | None:
        """Return the last nominal time that is not after ``moment``; None where there was none for decades."""
        backwards = (int(found.timestamp()) for found in self._simulation(moment + 1, reverse=True))
        found = next((time for time in backwards if time <= moment), None)
        if found is None:
            return None
        # Backwards it jumps over some times beside a change of the clocks; forwards it does not.
        for time in takewhile(lambda time: time <= moment, self.after(found)):
            found = time
        return found

    def at(self, time: int) -> datetime:
        """Return a time as the schedule's zone shows it."""
        return datetime.fromtimestamp(time, self._zone)

    def _simulation(self, moment: int, *, reverse: bool = False) -> CronSim:
        return CronSim(ALIASES.get(self.expression, self.expression), self.at(moment), reverse=reverse)


@dataclass(frozen=True, slots=True)
class Timing:
    """When a schedule fires. ``seed`` makes its jitter another one than that of a schedule of the same times."""

    cron: Cron
    missed: str = ONCE
    jitter_s: int = 0
    seed: str = ""

    def delay_s(self, time: int) -> int:
        """Return the jitter of a nominal time: always the same for the same one."""
        digest = sha256(f"{self.seed} {time}".encode()).digest()
        return int.from_bytes(digest[:8]) % (self.jitter_s + 1)


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done: nominal times to fire, the first and last of those that are passed over, and where the next
    look begins."""

    fire: tuple[int, ...]
    passed_over: tuple[int, int] | None
    mark: int


def due(timing: Timing, mark: int, now: int) -> Due:
    """Return what is due at ``now`` of the times after ``mark``, which is that of the last look."""
    if timing.missed == ALL:
        fire = tuple(time for time, _ in islice(_ripe(timing, mark, now), MOST_AT_ONCE))
        return Due(fire, None, fire[-1] if fire else mark)
    # All up to here are long due, however many that are: only their first and last are looked at.
    horizon = max(mark, now - timing.jitter_s - LATE_S - 1)
    recent = list(_ripe(timing, horizon, now))
    missed = _span(timing.cron, mark, horizon) + [time for time, due_at in recent if due_at < now - LATE_S]
    on_time = [time for time, due_at in recent if due_at >= now - LATE_S]
    newest = max(missed + on_time, default=mark)
    if not missed or timing.missed == SKIP:
        return Due(tuple(on_time), (missed[0], missed[-1]) if missed else None, newest)
    # One run stands for all.
    before = timing.cron.latest(newest - 1)
    over = None if missed[0] == newest or before is None else (missed[0], before)
    return Due((newest,), over, newest)


def _ripe(timing: Timing, mark: int, now: int) -> Iterator[tuple[int, int]]:
    """Yield the times after ``mark`` that are due, each with since when; one waits for those before it."""
    since = mark
    for time in timing.cron.after(mark):
        since = max(since, time + timing.delay_s(time))
        if since > now:
            return
        yield time, since


def _span(cron: Cron, mark: int, horizon: int) -> list[int]:
    """Return the first and the last nominal time after ``mark`` and not after ``horizon``; nothing where none is."""
    first = next(cron.after(mark), None)
    if first is None or first > horizon:
        return []
    return [first, cron.latest(horizon) or first]


def coming(cron: Cron, now: int, count: int) -> list[int]:
    """Return the next ``count`` nominal times."""
    return list(islice(cron.after(now), count))
