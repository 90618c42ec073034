"""Submits the task of a request, and waits for its events until the last one, or until the client disconnects."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType

from celery import Celery

from graycat.auth.tokens import ApiToken
from graycat.errors import BrokerUnavailable, EngineError, GraycatError, TaskCancelled, TaskTimeout
from graycat.metrics import web as metrics
from graycat.queue import ids
from graycat.queue.control import broadcast_stop
from graycat.queue.events import CANCELLED, CHUNK, ERROR, PROGRESS, TaskEvent
from graycat.queue.kinds import SKIP, Kind
from graycat.queue.messages import MessageFactory
from graycat.queue.models import NewTask, Verdict
from graycat.queue.records import TaskRecords
from graycat.queue.topology import QUICK_QUEUES
from graycat.settings import Settings
from graycat.web.streaming.direct import DirectWriter
from graycat.web.streaming.hub import EventHub
from graycat.web.streaming.subscription import Subscription

logger = logging.getLogger(__name__)

#: Seconds past both of a task's deadlines after which a waiting request gives up: the worker is dead or cut off.
OVERDUE_S = 10.0
#: Seconds until another try to expire a task, if the broker was not available at its queue deadline.
EXPIRY_RETRY_S = 1.0


class ClientDisconnected(Exception):
    """Raised in a request whose client has closed its connection: an answer would reach no one."""


@dataclass(frozen=True, slots=True)
class Submission:
    """The task that a request asks for.

    ``body`` is what the engine gets. ``queue`` is the kind's own, or that of a model or of one worker.
    """

    kind: Kind
    queue: str
    mode: str
    body: bytes
    owner: str
    request_id: str
    #: Seconds; None: the settings' values for such a kind.
    queue_ttl_s: float | None = None
    exec_timeout_s: float | None = None
    #: More fields of the record, for a task that its owner looks at by its id; None for any other task.
    shown: Mapping[str, str] | None = None
    #: The ids that the task's name stands for in other families: while one is taken, there is no such task.
    rivals: tuple[str, ...] = ()
    #: Its webhook (``Webhook.to_json``); '' for none.
    webhook: str = ""
    #: The API token of a request that waits for the task: it ends with the token.
    token: ApiToken | None = None


class TaskGateway:
    """Submits tasks, waits for them and cancels them."""

    def __init__(self, settings: Settings, records: TaskRecords, hub: EventHub, app: Celery) -> None:
        self.settings = settings
        self.records = records
        self.hub = hub
        self._app = app
        self._messages = MessageFactory(app)

    def submit(self, submission: Submission, task_id: str = "") -> PendingTask:
        """Submit a task and subscribe to its events.

        Raises QueueFull or BrokerUnavailable; then nothing was queued.
        """
        subscription = self.hub.subscribe_new(task_id or ids.new_task_id(submission.kind.name))
        subscription.token = submission.token
        try:
            self._create(subscription.task_id, submission, self.hub.channel_of(subscription.task_id))
        except GraycatError:
            self.hub.unsubscribe(subscription)
            raise
        subscription.created = True
        return PendingTask(self, subscription, self.deadlines(submission), submission.kind.name)

    def deadlines(self, submission: Submission) -> tuple[float, float]:
        """Return the seconds that a task may wait in its queue, and the seconds that it may run."""
        kind = submission.kind
        queue_ttl_s, exec_timeout_s = kind.family.deadlines(self.settings, quick=kind.queue in QUICK_QUEUES)
        return submission.queue_ttl_s or queue_ttl_s, submission.exec_timeout_s or exec_timeout_s

    def enqueue(self, submission: Submission, task_id: str = "") -> tuple[str, bool]:
        """Submit a task without waiting for it; return its id, and whether it is new.

        Raises what ``submit`` raises, and IdempotencyConflict if one of its rivals exists.
        """
        task_id = task_id or ids.new_task_id(submission.kind.name)
        is_new = self._create(task_id, submission, channel="")
        return task_id, is_new

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
            rivals=submission.rivals,
            webhook=submission.webhook,
        )
        return self.records.create(task, self._messages.make(task.kind, task_id, task.queue))

    def cancel(self, task_id: str, how: Verdict = Verdict.CANCEL, kind: str = "") -> None:
        """Ask an unfinished task to stop, and tell the worker that runs it. Raises BrokerUnavailable.

        ``kind``: the task's kind, if a task that was still queued is to be counted as cancelled in the metrics.
        """
        state, worker = self.records.cancel(task_id, how)
        if state == "running":
            broadcast_stop(self._app, task_id, worker, how)
        elif state == "cancelled" and not worker and kind:
            metrics.count_task(kind, state)

    def abandon(self, task_id: str, kind: str) -> None:
        """Cancel a task that nobody waits for any more. Never raises: without the broker it ends at its deadline."""
        try:
            self.cancel(task_id, kind=kind)
        except BrokerUnavailable:
            logger.warning("cancel not delivered", extra={"task_id": task_id})

    def skip(self, task_id: str) -> None:
        """Make a running task's engine leave out the rest of its current batch of images."""
        worker = self.records.get(task_id).get("worker")
        if worker:
            broadcast_stop(self._app, task_id, worker, SKIP)


class PendingTask:
    """A submitted task that a request waits for. If it is closed before its last event, the task is cancelled."""

    def __init__(
        self, gateway: TaskGateway, subscription: Subscription, deadlines: tuple[float, float], kind: str
    ) -> None:
        self._gateway = gateway
        self._subscription = subscription
        self._kind = kind
        #: Whether ``next_event`` returns events of the kind ``progress``, too.
        self.with_progress = False
        #: When the first event of the answer came (monotonic clock); 0 until then.
        self.first_event_at = 0.0
        queue_ttl_s, exec_timeout_s = deadlines
        now = time.monotonic()
        self._queue_deadline: float | None = now + queue_ttl_s
        self._overdue_at = now + queue_ttl_s + exec_timeout_s + OVERDUE_S
        self._ended = False
        #: Whether this process has ended the wait, not the task.
        self._given_up = False
        self._disconnected = False

    @property
    def task_id(self) -> str:
        """Return the task's id."""
        return self._subscription.task_id

    def client_disconnected(self) -> None:
        """Note that the client is gone: the waiting ``next_event`` raises ClientDisconnected. Never blocks."""
        self._disconnected = True
        self._subscription.wake()

    def next_event(self, timeout_s: float | None = None, writer: DirectWriter | None = None) -> TaskEvent | None:
        """Return the next event of the answer, or None if none came within ``timeout_s``.

        While it waits, the hub may write chunks with ``writer`` instead of returning them; then None may also mean
        that the writer must be flushed. Raises what the task failed with: EngineError with the engine's or graycat's
        reply, TaskCancelled, TaskTimeout if no worker finished it; and ClientDisconnected.
        """
        self._subscription.writer = writer
        try:
            return self._wait_for_event(timeout_s, writer)
        finally:
            self._subscription.writer = None

    def _wait_for_event(self, timeout_s: float | None, writer: DirectWriter | None) -> TaskEvent | None:
        wait_until = None
        if timeout_s is not None:
            wait_until = time.monotonic() + timeout_s
        while True:
            event = self._subscription.get(self._seconds_until_deadline(wait_until))
            if self._disconnected:
                raise ClientDisconnected
            wanted = self._take(event)
            if wanted is not None:
                return wanted
            if writer is not None and writer.unsent:
                return None
            if writer is not None and timeout_s is not None and wait_until is not None:
                # Chunks that the hub wrote count as events: the time starts again with each.
                wait_until = max(wait_until, writer.sent_at + timeout_s)
            now = time.monotonic()
            if wait_until is not None and now >= wait_until:
                return None
            self._enforce_deadlines(now)

    def _seconds_until_deadline(self, wait_until: float | None) -> float:
        nearest = self._overdue_at
        if wait_until is not None:
            nearest = min(nearest, wait_until)
        if self._queue_deadline is not None:
            nearest = min(nearest, self._queue_deadline)
        return nearest - time.monotonic()

    def _enforce_deadlines(self, now: float) -> None:
        """Expire the task at its queue deadline. Raises TaskTimeout if it is overdue."""
        if self._queue_deadline is not None and now >= self._queue_deadline:
            self._queue_deadline = None
            try:
                # An expired task's last event says so. If the task has not expired, a worker has it.
                if self._gateway.records.expire(self.task_id):
                    metrics.count_task(self._kind, "expired")
            except BrokerUnavailable:
                self._queue_deadline = now + EXPIRY_RETRY_S
        if now >= self._overdue_at:
            raise TaskTimeout

    def _take(self, event: TaskEvent | None) -> TaskEvent | None:
        """Return an event that this request reads, None for any other; raise the error that it carries."""
        if event is None:
            return None
        if event.kind == CHUNK or event.terminal:
            return self._accept(event)
        if event.kind == PROGRESS and self.with_progress:
            return event
        # It tells how far the task is, or is of a version that this one does not know.
        return None

    def _accept(self, event: TaskEvent) -> TaskEvent:
        """Return an event of the answer, or raise the error that it carries."""
        # An event without an id is from this process: the task goes on, and is cancelled by ``close``.
        self._ended = event.terminal and bool(event.id)
        self._given_up = event.terminal and not event.id
        if not self.first_event_at:
            self.first_event_at = time.monotonic()
        if self._subscription.refusal is not None:
            raise self._subscription.refusal
        if event.kind == ERROR:
            raise EngineError(*event.answer())
        # An image task that was interrupted ends with the images that it has.
        if event.kind == CANCELLED and not event.data:
            raise TaskCancelled
        return event

    def __enter__(self) -> PendingTask:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop waiting; a task that has not ended is cancelled."""
        self._gateway.hub.unsubscribe(self._subscription)
        if self._ended:
            return
        self._ended = True
        if self._given_up:
            # This process stops, or has lost the broker. Its client is told at once, not when the broker has answered.
            abandon = partial(self._gateway.abandon, self.task_id, self._kind)
            threading.Thread(target=abandon, name="abandon", daemon=True).start()
        else:
            self._gateway.abandon(self.task_id, self._kind)
