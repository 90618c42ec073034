"""Tickets: a request's hold on the task it made, from submit until its last event or the client's hang-up."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

from celery import Celery

from graycat.errors import BrokerUnavailable, EngineError, GraycatError, TaskCancelled, TaskTimeout
from graycat.metrics import web as metrics
from graycat.queue import ids
from graycat.queue.control import broadcast_stop
from graycat.queue.events import CANCELLED, ERROR, PROGRESS, STARTED, TaskEvent
from graycat.queue.kinds import SKIP, Kind
from graycat.queue.messages import MessageFactory
from graycat.queue.models import NewTask, Verdict
from graycat.queue.records import TaskRecords
from graycat.settings import Settings
from graycat.web.streaming.direct import DirectWriter
from graycat.web.streaming.hub import EventHub, Subscription

logger = logging.getLogger(__name__)

#: Seconds past a task's own deadlines after which a waiting request gives it up: its worker is dead or cut off.
OVERDUE_S = 10.0
#: Seconds after which a queue deadline is looked at again that the broker was not there for.
RETRY_EXPIRY_S = 1.0


class ClientGone(Exception):
    """Raised in a request whose client has hung up; nobody reads what follows."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What a request asks for. ``body`` is what the engine gets, ``queue`` the kind's or a model's."""

    kind: Kind
    queue: str
    mode: str
    body: bytes
    owner: str
    request_id: str
    #: Seconds; None: the settings' for such a kind.
    queue_ttl_s: float | None = None
    exec_timeout_s: float | None = None
    #: Fields of a task that its owner looks at by its id.
    shown: Mapping[str, str] | None = None


class TaskGateway:
    """Submits tasks and waits for them."""

    def __init__(self, settings: Settings, records: TaskRecords, hub: EventHub, app: Celery) -> None:
        self.settings = settings
        self.records = records
        self.hub = hub
        self._app = app
        self._messages = MessageFactory(app)

    def submit(self, submission: Submission, task_id: str = "") -> PendingTask:
        """Accept a task and wait for it. Raises QueueFull, BrokerUnavailable: then nothing was queued."""
        watch = self.hub.watch(task_id or ids.new_task_id(submission.kind.name))
        try:
            self._create(watch.task_id, submission, self.hub.channel)
        except GraycatError:
            self.hub.unwatch(watch)
            raise
        return PendingTask(self, watch, self.deadlines(submission), submission.kind.name)

    def deadlines(self, submission: Submission) -> tuple[float, float]:
        """Return the seconds that a task may wait in its queue, and that it may run."""
        queue_ttl_s, exec_timeout_s = submission.kind.family.deadlines(self.settings)
        return submission.queue_ttl_s or queue_ttl_s, submission.exec_timeout_s or exec_timeout_s

    def enqueue(self, submission: Submission, task_id: str = "") -> tuple[str, bool]:
        """Accept a task that nobody waits for; return its id, and whether it is new. Raises as ``submit``."""
        task_id = task_id or ids.new_task_id(submission.kind.name)
        return task_id, self._create(task_id, submission, channel="")

    def _create(self, task_id: str, submission: Submission, channel: str) -> bool:
        queue_ttl_s, exec_timeout_s = self.deadlines(submission)
        task = NewTask(
            id=task_id,
            kind=submission.kind.name,
            mode=submission.mode,
            queue=submission.queue,
            body=submission.body,
            owner=submission.owner,
            channel=channel,
            request_id=submission.request_id,
            queue_ttl_s=queue_ttl_s,
            exec_timeout_s=exec_timeout_s,
            shown=submission.shown,
        )
        return self.records.create(task, self._messages.make(task.kind, task_id, task.queue))

    def cancel(self, task_id: str, how: Verdict = Verdict.CANCEL, kind: str = "") -> None:
        """Ask an unfinished task of a kind to stop, and tell the worker that runs it."""
        try:
            state, worker = self.records.cancel(task_id, how)
            if state == "running":
                broadcast_stop(self._app, task_id, worker, how)
            elif state == "cancelled" and not worker and kind:
                metrics.ended(kind, state)
        except BrokerUnavailable:
            # The task ends at its deadline.
            logger.warning("cancel not delivered", extra={"task_id": task_id})

    def skip(self, task_id: str) -> None:
        """Have a running task's engine leave out the rest of the batch that it is at."""
        worker = self.records.get(task_id).get("worker")
        if worker:
            broadcast_stop(self._app, task_id, worker, SKIP)


class PendingTask:
    """One task's events for the request that made it. Closing it before the last event cancels the task."""

    def __init__(self, gateway: TaskGateway, watch: Subscription, deadlines: tuple[float, float], kind: str) -> None:
        self._office = gateway
        self._watch = watch
        self._kind = kind
        #: When the first event of the answer came (monotonic clock); 0 until then.
        self.first_at = 0.0
        queue_ttl_s, exec_timeout_s = deadlines
        now = time.monotonic()
        self._queue_deadline: float | None = now + queue_ttl_s
        self._overdue_at = now + queue_ttl_s + exec_timeout_s + OVERDUE_S
        self._ended = self._hung_up = False

    @property
    def task_id(self) -> str:
        """Return the task's id."""
        return self._watch.task_id

    def hang_up(self) -> None:
        """Note that the client is gone; the waiting ``next`` raises ClientGone. Never blocks."""
        self._hung_up = True
        self._watch.wake()

    def next(self, timeout_s: float | None = None, spout: DirectWriter | None = None) -> TaskEvent | None:
        """Return the next event of the answer, or None when ``timeout_s`` passed without one.

        Chunks go by ``spout`` where that can be; then None may also mean that it is to be flushed. Raises what the
        task failed with: EngineError with the engine's or graycat's reply, TaskCancelled, TaskTimeout where nobody
        finished it; ClientGone.
        """
        self._watch.direct = spout
        try:
            return self._next(timeout_s, spout)
        finally:
            self._watch.direct = None

    def _next(self, timeout_s: float | None, spout: DirectWriter | None) -> TaskEvent | None:
        wait_until = time.monotonic() + timeout_s if timeout_s is not None else None
        while True:
            event = self._watch.get(self._patience_s(wait_until))
            if self._hung_up:
                raise ClientGone
            if event is not None and event.kind not in (STARTED, PROGRESS):
                return self._checked(event)
            if spout is not None and spout.rest:
                return None
            if spout is not None and wait_until is not None and timeout_s is not None:
                wait_until = max(wait_until, spout.sent_at + timeout_s)
            now = time.monotonic()
            if wait_until is not None and now >= wait_until:
                return None
            self._keep_deadlines(now)

    def _patience_s(self, wait_until: float | None) -> float:
        deadlines = (wait_until, self._queue_deadline, self._overdue_at)
        return min(deadline for deadline in deadlines if deadline is not None) - time.monotonic()

    def _keep_deadlines(self, now: float) -> None:
        if self._queue_deadline is not None and now >= self._queue_deadline:
            self._queue_deadline = None
            try:
                # Where it has expired, its last event says so; else a worker has it.
                if self._office.records.expire(self.task_id):
                    metrics.ended(self._kind, "expired")
            except BrokerUnavailable:
                self._queue_deadline = now + RETRY_EXPIRY_S
        if now >= self._overdue_at:
            raise TaskTimeout

    def _checked(self, event: TaskEvent) -> TaskEvent:
        # An event without an id is this process's own: the task goes on, and is cancelled when the ticket is closed.
        self._ended = event.terminal and bool(event.id)
        if not self.first_at:
            self.first_at = time.monotonic()
        if event.kind == ERROR:
            raise EngineError(*event.answer())
        # An image task that was interrupted ends with the images it has.
        if event.kind == CANCELLED and not event.data:
            raise TaskCancelled
        return event

    def __enter__(self) -> PendingTask:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the ticket back; a task that has not ended is cancelled."""
        self._office.hub.unwatch(self._watch)
        if not self._ended:
            self._ended = True
            self._office.cancel(self.task_id, kind=self._kind)
