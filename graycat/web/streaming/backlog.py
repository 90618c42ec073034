"""How much of what is pushed may wait for the requests that read it: workers of boxes push what they like, as fast as
their lines carry, and a request takes events no faster than its client reads.
"""

from __future__ import annotations

import threading

from graycat.queue.events import MAX_ANSWER_BYTES, TaskEvent

_MIB = 1024 * 1024
#: The longest message that a worker of graycat causes: an answer behind the names of its task and its event.
MAX_PUSH_BYTES = MAX_ANSWER_BYTES + 1024
#: What may wait in one subscription before the next event. A client that reads nothing is cut long before an engine has
#: made so much.
MAX_WAITING_BYTES = 64 * _MIB
#: What may wait in all subscriptions of a family. Above that, those go that have more than FAIR_BYTES.
MAX_FAMILY_BYTES, FAIR_BYTES = 256 * _MIB, _MIB
#: What an event takes beside its data, roughly.
EVENT_BYTES = 300


class FamilyBacklog:
    """The bytes of events that wait in all subscriptions to the tasks of a family."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.waiting_bytes = 0


class Backlog:
    """The bytes of events that wait in one subscription."""

    def __init__(self, family: FamilyBacklog) -> None:
        self._family = family
        self._waiting_bytes = 0
        self._is_over = False

    def add(self, event: TaskEvent) -> bool:
        """Count an event that has to wait; return False if there is no room for it."""
        with self._family.lock:
            if self._is_over or not self._has_room():
                return False
            self._change(_size(event))
        return True

    def remove(self, event: TaskEvent) -> None:
        """Count an event no longer."""
        with self._family.lock:
            if not self._is_over:
                self._change(-_size(event))

    def close(self) -> None:
        """Count nothing any more, and have no room from now on."""
        with self._family.lock:
            self._change(-self._waiting_bytes)
            self._is_over = True

    def _has_room(self) -> bool:
        if self._waiting_bytes >= MAX_WAITING_BYTES:
            return False
        return self._family.waiting_bytes < MAX_FAMILY_BYTES or self._waiting_bytes < FAIR_BYTES

    def _change(self, count: int) -> None:
        self._waiting_bytes += count
        self._family.waiting_bytes += count


def _size(event: TaskEvent) -> int:
    return EVENT_BYTES + len(event.data)
