"""Following a task: its events as they come, for whoever may see it."""

from __future__ import annotations

import time

from flask import request

from graycat.errors import BrokerUnavailable
from graycat.queue.events import TaskEvent
from graycat.queue.models import TERMINAL_STATES
from graycat.queue.records import TaskRecords
from graycat.web.api import task_views
from graycat.web.services import services
from graycat.web.streaming.disconnect import watched
from graycat.web.streaming.hub import EventHub
from graycat.web.streaming.requests import ClientGone


class Follower:
    """A reader of one task's events, from behind ``after`` on; closing it does the task nothing."""

    def __init__(self, task_id: str, after: str = "0") -> None:
        gateway = services().gateway
        self._hub: EventHub = gateway.hub
        self._records: TaskRecords = gateway.records
        self._watch = self._hub.follow(task_id, after)
        self._guard = watched(request.environ, self._hang_up)
        self._gone = False

    def __enter__(self) -> Follower:
        self._guard.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop following."""
        self._guard.__exit__(None, None, None)
        self._hub.unwatch(self._watch)

    def _hang_up(self) -> None:
        self._gone = True
        self._watch.wake()

    def next(self, timeout_s: float) -> TaskEvent | None:
        """Return the next event; None where none came in time. Raises ClientGone."""
        event = self._watch.get(timeout_s)
        if self._gone:
            raise ClientGone
        return event

    @property
    def nothing_left(self) -> bool:
        """Tell whether no event has come that was not read."""
        return self._watch.empty

    def task_is_over(self) -> bool:
        """Tell whether nothing more can come; a task that has waited past its deadline ends here."""
        try:
            return task_views.current(self._records, self._watch.task_id).get("state", "") in ("", *TERMINAL_STATES)
        except BrokerUnavailable:
            return False

    def ended(self, timeout_s: float) -> bool:
        """Tell whether the task ended within the time. Raises ClientGone."""
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            event = self.next(left_s)
            if event is not None and event.terminal:
                return True
        return False
