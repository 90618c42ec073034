"""A task's events, read page by page: a task may have 20,000 of them, and each may be large."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from graycat.queue.errors import EventsGone
from graycat.queue.events import TaskEvent
from graycat.queue.positions import begins_anew

#: Events in the first page, and in any.
FIRST_COUNT, MAX_COUNT = 16, 512
#: What the data of a page should take. The events of a page tell how many of them the next one may have.
PAGE_BYTES = 256 * 1024


#: Returns at most so many events of a task from one on: "-", an id, or "(" and an id that is left out.
EventRange = Callable[[str, str, int], list[TaskEvent]]


class EventPages:
    """The events of a task after the one with the id ``after`` ("0": all of them), oldest first."""

    def __init__(self, read_range: EventRange, task_id: str, after: str = "0") -> None:
        self._read_range = read_range
        self._task_id = task_id
        self._position = after
        self._count = FIRST_COUNT
        #: Whether events were read already: the newest of them must still be there when the next page is read.
        self._has_begun = False
        #: Whether the stream had no more events when the newest page was read.
        self.is_at_end = False

    def read(self) -> list[TaskEvent]:
        """Return the next page; an empty one if there are no more events.

        Raises BrokerUnavailable, and EventsGone if events were dropped before they were read here.
        """
        if self._has_begun:
            page = self._read_on()
        else:
            first = "-" if self._position == "0" else f"({self._position}"
            page = self._read_range(self._task_id, first, self._count)
            self.is_at_end = len(page) < self._count
        if page:
            self._has_begun = True
            self._position = page[-1].id
            bytes_each = sum(len(event.data) for event in page) // len(page) + 1
            self._count = max(1, min(MAX_COUNT, PAGE_BYTES // bytes_each))
        return page

    def _read_on(self) -> list[TaskEvent]:
        """Return the events behind the position, together with which the event at the position is read once more."""
        page = self._read_range(self._task_id, self._position, self._count + 1)
        self.is_at_end = len(page) <= self._count
        if page and page[0].id == self._position:
            return page[1:]
        if page and begins_anew(page[:2]):
            return page
        raise EventsGone

    def __iter__(self) -> Iterator[list[TaskEvent]]:
        """Yield the pages up to the end that the stream has when it is reached."""
        while not self.is_at_end:
            yield self.read()
