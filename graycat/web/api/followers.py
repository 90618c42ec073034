"""Follows an existing task: reads its events as they come, without cancelling it at the end."""

from __future__ import annotations

import time

from flask import g, request

from graycat.errors import BrokerUnavailable
from graycat.queue.events import TaskEvent
from graycat.queue.models import TERMINAL_STATES
from graycat.web.api import task_views
from graycat.web.services import services
from graycat.web.streaming.disconnect import on_disconnect
from graycat.web.streaming.requests import ClientDisconnected


class TaskFollower:
    """Reads one task's events, from the event after the id ``after`` on. Closing it does not affect the task."""

    def __init__(self, task_id: str, after: str = "0") -> None:
        gateway = services().gateway
        self._hub = gateway.hub
        self._records = gateway.records
        self._subscription = self._hub.subscribe(task_id, after)
        self._subscription.token = g.token
        self._disconnect_watch = on_disconnect(request.environ, self._client_disconnected)
        self._disconnected = False

    def __enter__(self) -> TaskFollower:
        self._disconnect_watch.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop following."""
        self._disconnect_watch.__exit__(None, None, None)
        self._hub.unsubscribe(self._subscription)

    def _client_disconnected(self) -> None:
        self._disconnected = True
        self._subscription.wake()

    def next_event(self, timeout_s: float) -> TaskEvent | None:
        """Return the next event; None if none came in time. Raises ClientDisconnected."""
        event = self._subscription.get(timeout_s)
        if self._disconnected:
            raise ClientDisconnected
        return event

    @property
    def caught_up(self) -> bool:
        """Return whether all events that have come were read."""
        return self._subscription.empty

    def task_is_over(self) -> bool:
        """Return whether no more events can come. Expires the task if it is past its queue deadline."""
        try:
            record = task_views.read_record(self._records, self._subscription.task_id)
        except BrokerUnavailable:
            return False
        state = record.get("state")
        return not state or state in TERMINAL_STATES

    def wait_for_end(self, timeout_s: float) -> bool:
        """Return whether its events ended within the time. Raises ClientDisconnected, InvalidToken."""
        deadline = time.monotonic() + timeout_s
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            event = self.next_event(left_s)
            if self._subscription.refusal is not None:
                raise self._subscription.refusal
            if event is not None and event.terminal:
                return True


def wait_for_end(task_id: str, timeout_s: float) -> None:
    """Wait until a task has ended, or the time is up. Raises BrokerUnavailable, ClientDisconnected, InvalidToken."""
    last = services().gateway.records.last_event(task_id)
    if last is not None and last.terminal:
        return
    # What came before is of no interest.
    after = "0" if last is None else last.id
    with TaskFollower(task_id, after) as follower:
        follower.wait_for_end(timeout_s)
