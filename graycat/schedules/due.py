"""Decides which times of a schedule are due: pure arithmetic, on whole seconds since 1970.

A *nominal time* is one that the cron expression names. Its jitter is how many seconds later it becomes due. Each
nominal time is handled once: it is either fired or passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from graycat.bounds.timezones import load_timezone
from graycat.schedules.errors import InvalidSchedule

#: What to do with times that passed while no scheduler was running: nothing, one run for all of them, or one for each.
MISSED_SKIP = "skip"
MISSED_RUN_ONCE = "once"
MISSED_RUN_ALL = "all"
MISSED_POLICIES = (MISSED_SKIP, MISSED_RUN_ONCE, MISSED_RUN_ALL)
#: A time that has been due for more seconds than this was missed.
MISSED_AFTER_S = 60
#: How many times are fired in one step; the others follow in the next steps.
MAX_FIRES_PER_STEP = 50
#: The largest jitter, in seconds.
MAX_JITTER_S = 86_400
#: Short names of expressions, as in other crons.
ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS, _MAX_CHARS = 5, 200


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression of five fields, or an alias, in a time zone. Raises InvalidSchedule.

    It behaves as Debian's cron. When clocks are put forward, a fixed time in the gap fires right after the gap; when
    they are put back, a fixed time fires only the first time. An expression whose minute or hour is a ``*`` follows the
    clock on the wall: it does not fire in a gap, and it fires in both hours of a repeated one.
    """

    expression: str
    timezone: str
    _zone: ZoneInfo = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.expression) > _MAX_CHARS:
            raise InvalidSchedule(f"'cron' must have {_MAX_CHARS} characters at most")
        try:
            zone = load_timezone(self.timezone)
        except ValueError as error:
            raise InvalidSchedule(f"'timezone': {error}") from None
        object.__setattr__(self, "_zone", zone)

        shown = self.expression[:100]
        if self.expression not in ALIASES and len(self.expression.split()) != _FIELDS:
            raise InvalidSchedule(
                f"'cron': {shown!r} must have {_FIELDS} fields, minute hour day month weekday, "
                f"or be one of {', '.join(ALIASES)}"
            )
        try:
            first = next(self.after(0), None)
        except CronSimError as error:
            reason = str(error)
            raise InvalidSchedule(f"'cron': {shown!r}: {reason[:1].lower()}{reason[1:]}") from None
        if first is None:
            raise InvalidSchedule(f"'cron': {shown!r} names a time that never comes")

    def after(self, moment: int) -> Iterator[int]:
        """Yield the nominal times after ``moment``, each once and in order."""
        last = moment
        for found in self._simulate(moment):
            time = int(found.timestamp())
            # In an hour that comes twice, cronsim may start again with the first one.
            if time > last:
                last = time
                yield time

    def latest(self, moment: int) -> int | None:
        """Return the last nominal time at or before ``moment``; None if there was none for decades."""
        found = None
        for candidate in self._simulate(moment + 1, reverse=True):
            time = int(candidate.timestamp())
            if time <= moment:
                found = time
                break
        if found is None:
            return None
        # Backwards, cronsim leaves out some times near a change of the clocks; forwards it does not.
        for time in takewhile(lambda time: time <= moment, self.after(found)):
            found = time
        return found

    def at(self, time: int) -> datetime:
        """Return a time in the schedule's time zone."""
        return datetime.fromtimestamp(time, self._zone)

    def _simulate(self, moment: int, *, reverse: bool = False) -> CronSim:
        return CronSim(ALIASES.get(self.expression, self.expression), self.at(moment), reverse=reverse)


@dataclass(frozen=True, slots=True)
class Timing:
    """When a schedule fires. ``seed`` gives schedules with the same times different jitters."""

    cron: Cron
    missed: str = MISSED_RUN_ONCE
    jitter_s: int = 0
    seed: str = ""

    def delay_s(self, time: int) -> int:
        """Return the jitter of a nominal time. It is always the same for the same time."""
        digest = sha256(f"{self.seed} {time}".encode()).digest()
        return int.from_bytes(digest[:8]) % (self.jitter_s + 1)


@dataclass(frozen=True, slots=True)
class Due:
    """What a step must do.

    ``fire``: nominal times to fire. ``passed_over``: the first and the last nominal time of those that are passed over.
    ``handled_until``: the nominal time after which the next step begins.
    """

    fire: tuple[int, ...]
    passed_over: tuple[int, int] | None
    handled_until: int


def find_due(timing: Timing, handled_until: int, now: int) -> Due:
    """Return what is due at ``now`` of the nominal times after ``handled_until``."""
    if timing.missed == MISSED_RUN_ALL:
        fire = tuple(time for time, _ in islice(_due_times(timing, handled_until, now), MAX_FIRES_PER_STEP))
        return Due(fire, None, max(fire, default=handled_until))

    # All times up to the horizon were missed. There may be very many, so only the first and the last are computed.
    horizon = max(handled_until, now - timing.jitter_s - MISSED_AFTER_S - 1)
    missed = _first_and_last(timing.cron, handled_until, horizon)
    on_time = []
    for time, due_since in _due_times(timing, horizon, now):
        if due_since < now - MISSED_AFTER_S:
            missed.append(time)
        else:
            on_time.append(time)
    newest = max(missed + on_time, default=handled_until)

    if not missed:
        return Due(tuple(on_time), None, newest)
    if timing.missed == MISSED_SKIP:
        return Due(tuple(on_time), (missed[0], missed[-1]), newest)

    # The newest time is fired for all of them.
    passed_over = None
    before_newest = timing.cron.latest(newest - 1)
    if missed[0] != newest and before_newest is not None:
        passed_over = (missed[0], before_newest)
    return Due((newest,), passed_over, newest)


def _due_times(timing: Timing, handled_until: int, now: int) -> Iterator[tuple[int, int]]:
    """Yield the nominal times after ``handled_until`` that are due, each with the time since when.

    The order is kept: a time is not due before all earlier ones are.
    """
    due_since = handled_until
    for time in timing.cron.after(handled_until):
        due_since = max(due_since, time + timing.delay_s(time))
        if due_since > now:
            return
        yield time, due_since


def _first_and_last(cron: Cron, after: int, until: int) -> list[int]:
    """Return the first and the last nominal time after ``after`` and not after ``until``; empty if there is none."""
    first = next(cron.after(after), None)
    if first is None or first > until:
        return []
    return [first, cron.latest(until) or first]


def next_times(cron: Cron, now: int, count: int) -> list[int]:
    """Return the next ``count`` nominal times."""
    return list(islice(cron.after(now), count))
