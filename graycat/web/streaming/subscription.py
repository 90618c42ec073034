"""A subscription: what one request takes of the events of its task, in order and each once."""

from __future__ import annotations

import contextlib
import queue
import threading

from graycat.auth.errors import InvalidToken
from graycat.auth.tokens import ApiToken
from graycat.errors import EngineProtocolError, GraycatError
from graycat.metrics import web as metrics
from graycat.queue.events import CHUNK, ERROR, TaskEvent, answer, event_order
from graycat.queue.pages import EventPages
from graycat.web.streaming.backlog import Backlog, FamilyBacklog
from graycat.web.streaming.direct import DirectWriter


class Subscription:
    """The queue of one task's events for one request: in order, each event once."""

    def __init__(
        self,
        task_id: str,
        after: str = "0",
        family: FamilyBacklog | None = None,
        earlier: EventPages | None = None,
    ) -> None:
        self.task_id = task_id
        #: Whether the task's record was written. If it is gone after that, the task is lost.
        self.created = False
        self._last_order = event_order(after)
        self._last_id = after
        #: The earlier events, while not all of them are read; None from then on. What is pushed meanwhile is in the
        #: stream too: it is dropped, or the events of a task would wait here faster than its client reads them.
        self._earlier = earlier
        #: What was pushed while the newest page was being read, which may be the last; None while none is read.
        self._held: list[TaskEvent] | None = None
        #: Whether pushes may have been lost since that began.
        self._has_missed = False
        self._lock = threading.Lock()
        self._events: queue.SimpleQueue[TaskEvent | None] = queue.SimpleQueue()
        self._backlog = Backlog(family or FamilyBacklog())
        #: How many of the events in front were read from the stream: nobody has pushed them.
        self._read_events = 0
        self._is_closed = False
        #: Writes chunks to the client's socket. Set only while the request waits for the next event.
        self.writer: DirectWriter | None = None
        #: The API token of the request, if that is known, and why it may not wait any longer.
        self.token: ApiToken | None = None
        self.refusal: InvalidToken | None = None

    @property
    def last_id(self) -> str:
        """Return the id of the newest event that was received."""
        return self._last_id

    @property
    def empty(self) -> bool:
        """Return whether ``get`` would have to wait."""
        return self._earlier is None and self._events.empty()

    def read_page(self) -> None:
        """Deliver the next page of the earlier events, and what was pushed meanwhile if it is the last.

        Raises BrokerUnavailable, EventsGone.
        """
        earlier = self._earlier
        if earlier is None:
            return
        with self._lock:
            self._held, self._has_missed = [], False
        page = earlier.read()
        with self._lock:
            for event in page:
                self._deliver(event, is_read=True)
            pushed, self._held = self._held, None
            for event in pushed:
                self._backlog.remove(event)
            if earlier.is_at_end and not self._has_missed:
                for event in pushed:
                    self._deliver(event)
                self._earlier = None

    def note_missed(self) -> bool:
        """Note that pushes were lost; return whether they are going to be read with the earlier events."""
        with self._lock:
            self._has_missed = True
            return self._earlier is not None

    def put(self, event: TaskEvent) -> None:
        """Take an event from the hub; ignore it if it was received before."""
        if self._earlier is not None:
            with self._lock:
                if self._held is not None and self._takes(event):
                    self._held.append(event)
                if self._earlier is not None:
                    return
        self._deliver(event)

    def _deliver(self, event: TaskEvent, *, is_read: bool = False) -> None:
        if event.order > self._last_order and not self._is_closed:
            self._last_order = event.order
            self._last_id = event.id
            if is_read:
                self._read_events += 1
                self._events.put(event)
            elif not self._write_to_socket(event) and self._takes(event):
                self._events.put(event)

    def _takes(self, event: TaskEvent) -> bool:
        """Return whether an event may wait here. If not, the request fails: no engine makes so much."""
        if self._backlog.add(event):
            return True
        if not self._is_closed:
            self.close()
            metrics.PUSHES_DROPPED.labels("flood").inc()
            with contextlib.suppress(queue.Empty):
                while True:
                    self._events.get_nowait()
            self.fail(EngineProtocolError())
        return False

    def close(self) -> None:
        """Take nothing any more."""
        self._is_closed = True
        self._backlog.close()

    def _write_to_socket(self, event: TaskEvent) -> bool:
        """Write a chunk straight to the client's socket if the queue is empty; return False if it must be queued."""
        writer = self.writer
        if writer is None or event.kind != CHUNK or not self.empty or not writer.write(event.data):
            return False
        if writer.unsent:
            # The request flushes the rest.
            self.wake()
        return True

    def fail(self, error: GraycatError) -> None:
        """Make the waiting request fail with an error, whatever becomes of its task."""
        self._events.put(TaskEvent("", ERROR, answer(error.status, error.encoded())))

    def refuse(self, refusal: InvalidToken) -> None:
        """Make the waiting request fail, because its API token may not call any more."""
        self.refusal = refusal
        self.fail(refusal)

    def wake(self) -> None:
        """Make the waiting ``get`` return None. Safe from any thread or callback."""
        self._events.put(None)

    def get(self, timeout_s: float) -> TaskEvent | None:
        """Return the next event; None if ``wake`` was called or the time is up.

        Earlier events are read as they are taken. If they cannot be, the request fails.
        """
        try:
            while self._earlier is not None and self._events.empty():
                self.read_page()
        except GraycatError as error:
            self._earlier = None
            self.close()
            self.fail(error)
        try:
            event = self._events.get(timeout=max(timeout_s, 0.001))
        except queue.Empty:
            return None
        if event is not None and event.id:
            if self._read_events:
                self._read_events -= 1
            else:
                self._backlog.remove(event)
        return event
