"""Where in a task's events a reader goes on, and whether that place still is, or ever was.

A task's stream begins with ``started`` or with the task's end. It has another head if its oldest events were dropped:
by ``restarted``, which makes them void, or because the stream is longer than the broker keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graycat.queue.errors import EventsGone, EventUnknown
from graycat.queue.events import RESTARTED, STARTED, TaskEvent, event_order

#: Before the first event of every task.
BEGINNING = (0, 0)
#: The largest second number that a reader may send (``graycat.web.api.events.EVENT_ID``).
MAX_NUMBER = 10**19 - 1


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a task's stream has around a position: its first two events, and the newest one up to the position."""

    head: tuple[TaskEvent, ...]
    before: TaskEvent | None


def is_complete(head: Sequence[TaskEvent]) -> bool:
    """Return whether a stream with these first two events (or one) has lost none, but for those that are void."""
    return _has_first(head) or begins_anew(head)


def _has_first(head: Sequence[TaskEvent]) -> bool:
    return head[0].terminal or (head[0].kind == STARTED and head[0].data == b"1")


def begins_anew(head: Sequence[TaskEvent]) -> bool:
    """Return whether what came before the first event is void."""
    return head[0].kind == STARTED and len(head) > 1 and head[1].kind == RESTARTED


def check_position(after: str, around: Surroundings, *, is_over: bool, last_id: str) -> None:
    """Raise an error if a reader that goes on after the event ``after`` would miss events, or wait for none.

    ``last_id``: the id of the last event of a task that has ended, as its record says; '' if it does not.
    Raises EventsGone, EventUnknown.
    """
    position = event_order(after)
    if not around.head:
        _check_without_events(position, is_over=is_over, last_id=last_id)
    elif around.before is not None:
        _check_known(position, around.before, is_over=is_over)
    elif not is_complete(around.head):
        _check_trimmed(position, around.head[0])
    elif position != BEGINNING and not begins_anew(around.head):
        raise EventUnknown


def _check_without_events(position: tuple[int, int], *, is_over: bool, last_id: str) -> None:
    """Check a position in a task that has no events: it has not begun, or they are kept no longer."""
    if not is_over:
        if position != BEGINNING:
            raise EventUnknown
    elif not last_id or position != event_order(last_id):
        raise EventsGone


def _check_known(position: tuple[int, int], before: TaskEvent, *, is_over: bool) -> None:
    """Check a position behind the event ``before``."""
    # A broker that crashed may have lost the newest chunks, while their reader and their worker go on behind them:
    # chunks of one attempt share the first number.
    goes_on = not is_over and position[0] == before.order[0]
    if position != before.order and not goes_on:
        raise EventUnknown


def _check_trimmed(position: tuple[int, int], first: TaskEvent) -> None:
    """Check a position before the first event that is kept."""
    milliseconds, number = first.order
    last_dropped = (milliseconds, number - 1)
    if number == 0:
        last_dropped = (milliseconds - 1, MAX_NUMBER)
    if position != last_dropped:
        raise EventsGone("{}-{}".format(*last_dropped))
