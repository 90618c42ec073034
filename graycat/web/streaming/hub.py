"""The event hub: over one broker connection, a web process receives the events of all tasks that it waits for.

A task's record names the pub/sub channels of the web processes that wait for it; a process has one for each family of
engines. The script that appends an event to the task's stream also publishes it on these channels. What comes over a
family's channel about a task of another family is forged: workers may publish only to their own.

Pub/sub may lose messages, the stream does not: after a lost connection the hub reads from the streams what it missed.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import uuid4

import gevent
import hiredis
import redis
from gevent.event import AsyncResult

from graycat.auth.errors import InvalidToken
from graycat.auth.tokens import ApiToken
from graycat.broker import keys
from graycat.broker.connections import RawConnection, RawConnectionPool
from graycat.broker.protocol import Broker
from graycat.broker.scripts import ScriptLoader
from graycat.errors import BrokerDataLost, BrokerUnavailable, GraycatError
from graycat.families import FAMILIES
from graycat.loops.threads import GuardedThread
from graycat.loops.unexpected import guarded, note
from graycat.metrics import web as metrics
from graycat.queue import ids
from graycat.queue.events import CHUNK, ERROR, TaskEvent, answer, event_order
from graycat.queue.records import TaskRecords
from graycat.web.streaming.direct import DirectWriter
from graycat.web.streaming.disconnect import READABLE

logger = logging.getLogger(__name__)

#: A connection that was silent for this many seconds is dead: the hub pings the broker more often than that.
SILENCE_TIMEOUT_S = 6.0
RECONNECT_DELAY_S = 0.2
#: Seconds between two checks for tasks that the broker has lost.
LOST_TASKS_INTERVAL_S = 5.0
#: The highest priority of a watcher (libev's EV_MAXPRI).
FIRST = 2
#: What redis-py raises while the broker cannot be used.
BROKER_LOST = (redis.RedisError, BrokerUnavailable)


class Subscription:
    """The queue of one task's events for one request: in order, each event once."""

    def __init__(self, task_id: str, after: str = "0") -> None:
        self.task_id = task_id
        #: Whether the task's record was written. If it is gone after that, the task is lost.
        self.created = False
        self._last_order = event_order(after)
        self._last_id = after
        #: New events, while older ones are still being read from the stream; None at all other times.
        self._held: list[TaskEvent] | None = None
        self._lock = threading.Lock()
        self._events: queue.SimpleQueue[TaskEvent | None] = queue.SimpleQueue()
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
        return self._events.empty()

    def hold(self) -> None:
        """Hold new events back until ``resume``, because older ones are still being read."""
        self._held = []

    def resume(self, earlier: Iterable[TaskEvent]) -> None:
        """Deliver the earlier events, then those that were held back."""
        with self._lock:
            for event in earlier:
                self._deliver(event)
            for event in self._held or ():
                self._deliver(event)
            self._held = None

    def put(self, event: TaskEvent) -> None:
        """Take an event from the hub; ignore it if it was received before."""
        if self._held is not None:
            with self._lock:
                if self._held is not None:
                    self._held.append(event)
                    return
        self._deliver(event)

    def _deliver(self, event: TaskEvent) -> None:
        if event.order > self._last_order:
            self._last_order = event.order
            self._last_id = event.id
            if not self._write_to_socket(event):
                self._events.put(event)

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
        """Return the next event; None if ``wake`` was called or the time is up."""
        try:
            return self._events.get(timeout=max(timeout_s, 0.001))
        except queue.Empty:
            return None


class EventHub:
    """Passes the events that the broker pushes to the subscriptions of this process."""

    def __init__(self, client: Broker, records: TaskRecords) -> None:
        process = uuid4().hex
        #: Its channels, by the names of the families.
        self.channels = {family.name: keys.web_channel(family.name, process) for family in FAMILIES}
        self._client = client
        self._records = records
        self._scripts = ScriptLoader(RawConnectionPool(client))
        #: Of each channel, the subscriptions by the ids of their tasks.
        self._subscriptions: dict[bytes, dict[str, list[Subscription]]] = {}
        for channel in self.channels.values():
            self._subscriptions[channel.encode()] = {}
        self._warned = False
        # A task's list is dropped with its last subscription, which must not happen while another one is added.
        self._lock = threading.Lock()
        #: Its item is to hear from the broker: ``busy_since`` is when it last did.
        self.loop = GuardedThread("hub", self._run)
        self._connection: RawConnection | None = None
        self._checked_at = 0.0

    def start(self) -> None:
        """Start listening, in a thread (a greenlet under gevent)."""
        self.loop.beat()
        self.loop.start()

    def channel_of(self, task_id: str) -> str:
        """Return the channel for the events of a task: that of its family."""
        return self.channels[ids.family_of(task_id).name]

    def subscribe_new(self, task_id: str) -> Subscription:
        """Return a subscription to a task that is about to be created, with this hub's channel in its record."""
        return self._add(Subscription(task_id))

    def subscribe(self, task_id: str, after: str = "0") -> Subscription:
        """Return a subscription to an existing task, from the event after the id ``after`` on.

        Raises BrokerUnavailable.
        """
        subscription = Subscription(task_id, after)
        subscription.hold()
        self._add(subscription)
        try:
            self._records.subscribe(task_id, self.channel_of(task_id))
            subscription.resume(self._records.events(task_id, after=after))
            subscription.created = True
        except BaseException:
            self.unsubscribe(subscription)
            raise
        return subscription

    def _add(self, subscription: Subscription) -> Subscription:
        with self._lock:
            self._subscriptions_of(subscription.task_id).setdefault(subscription.task_id, []).append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Remove a subscription."""
        with self._lock:
            by_task = self._subscriptions_of(subscription.task_id)
            subscriptions = by_task.get(subscription.task_id, [])
            if subscription in subscriptions:
                subscriptions.remove(subscription)
            if not subscriptions:
                by_task.pop(subscription.task_id, None)

    def _subscriptions_of(self, task_id: str) -> dict[str, list[Subscription]]:
        """Return all subscriptions of a task's channel."""
        return self._subscriptions[self.channel_of(task_id).encode()]

    def fail_all(self, error: GraycatError) -> None:
        """Make every waiting request fail with an error."""
        for subscription in self.subscriptions():
            subscription.fail(error)

    def subscriptions(self) -> list[Subscription]:
        """Return the subscriptions of all requests that wait now."""
        found: list[Subscription] = []
        for by_task in self._subscriptions.values():
            # A copy of the values: other greenlets add and remove subscriptions meanwhile.
            for subscriptions in list(by_task.values()):
                found.extend(subscriptions)
        return found

    def stop(self) -> None:
        """Stop listening; returns at once."""
        self.loop.request_stop()
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        while not self.loop.stop_requested:
            try:
                self._listen()
            except (redis.ConnectionError, redis.TimeoutError, BrokerUnavailable) as error:
                logger.warning("hub lost its broker connection", extra={"reason": type(error).__name__})
            except Exception as error:  # noqa: BLE001 (all requests of this process depend on this loop)
                note("hub", error)
            time.sleep(RECONNECT_DELAY_S)

    def _listen(self) -> None:
        """Pass events on until the connection breaks, or stays silent although the broker was pinged."""
        connection = RawConnection(self._client)
        self._connection = connection
        try:
            connection.send([("SUBSCRIBE", *self.channels.values())])
            first = connection.read(len(self.channels))
            # After the SUBSCRIBE, and before the messages that it brought: a subscription ignores an older event that
            # comes after a newer one.
            self._catch_up()
            self._handle_messages(first)
            self.loop.beat()
            threading.Thread(target=self._ping, args=(connection,), name="hub-ping", daemon=True).start()
            self._relay(connection)
        except OSError as error:
            raise redis.ConnectionError from error
        finally:
            connection.close()

    def _relay(self, connection: RawConnection) -> None:
        """Pass events on as they come, in callbacks of the event loop. Returns only by an exception.

        Waking a greenlet for each token costs a fifth of what the web process does for it (docs/decisions/0015).
        """
        failure: AsyncResult[None] = AsyncResult()
        connection.socket.setblocking(False)
        # Of all sockets that a look has found ready, this one comes first: beside it there may be a thousand clients.
        watcher = gevent.get_hub().loop.io(connection.socket.fileno(), READABLE, priority=FIRST)

        def on_readable() -> None:
            try:
                self._handle_messages(connection.read_nowait())
            except Exception as error:  # noqa: BLE001 (gevent only prints what a callback raises; the hub must see it)
                watcher.stop()
                failure.set_exception(error)

        watcher.start(on_readable)
        try:
            while self._silence_s < SILENCE_TIMEOUT_S:
                # What only times out here has raised nothing. The pings keep a connection that works from being silent.
                with contextlib.suppress(gevent.Timeout):
                    failure.get(timeout=SILENCE_TIMEOUT_S)
            raise redis.TimeoutError("the broker is silent")
        finally:
            watcher.stop()
            watcher.close()

    def _ping(self, connection: RawConnection) -> None:
        """Make the broker send something now and then; shut the connection down if it no longer does."""
        # A broker that has come back without its data has no scripts, and boxes bring none.
        with guarded("hub", let_through=()), contextlib.suppress(*BROKER_LOST):
            self._scripts.load_missing()
        with contextlib.suppress(OSError):
            try:
                while self._silence_s < SILENCE_TIMEOUT_S:
                    connection.send([("PING",)])
                    time.sleep(SILENCE_TIMEOUT_S / 3)
                    if self.loop.stop_requested:
                        return
                    self._check_for_lost_tasks()
            finally:
                connection.socket.shutdown(socket.SHUT_RDWR)

    @property
    def _silence_s(self) -> float:
        """Return the seconds since anything came from the broker."""
        return time.monotonic() - self.loop.busy_since

    def _check_for_lost_tasks(self) -> None:
        now = time.monotonic()
        if now - self._checked_at < LOST_TASKS_INTERVAL_S:
            return
        self._checked_at = now
        with guarded("hub", let_through=()), contextlib.suppress(*BROKER_LOST):
            self._fail_lost_tasks()

    def _handle_messages(self, messages: Sequence[Any]) -> None:
        self.loop.busy_since = time.monotonic()
        for message in messages:
            if isinstance(message, hiredis.ReplyError):
                raise redis.ConnectionError(str(message))
            if message[0] == b"message":
                # Not ``guarded``: each token passes here, and a context manager costs a microsecond.
                try:
                    self._pass_on(message[1], message[2])
                except Exception as error:  # noqa: BLE001 (any client of the broker may publish on the channel)
                    note("hub", error)

    def _pass_on(self, channel: bytes, message: bytes) -> None:
        task_id, event = TaskEvent.from_push(message)
        subscriptions = self._subscriptions[channel].get(task_id)
        if subscriptions is None:
            self._drop(channel, task_id)
            return
        # A copy: if a subscription leaves meanwhile, the next one must not be skipped.
        for subscription in tuple(subscriptions):
            subscription.put(event)

    def _drop(self, channel: bytes, task_id: str) -> None:
        """Count a push that nobody waits for. One about a task of another family is forged."""
        if channel == self.channel_of(task_id).encode():
            # Its client has disconnected.
            metrics.PUSHES_DROPPED.labels("unwaited").inc()
            return
        metrics.PUSHES_DROPPED.labels("forged").inc()
        if not self._warned:
            self._warned = True
            logger.warning("events of other families' tasks are pushed here, and dropped", extra={"task_id": task_id})

    def _catch_up(self) -> None:
        """Read from the streams what the subscriptions missed while there was no connection."""
        for subscription in self.subscriptions():
            with guarded("hub", let_through=BROKER_LOST):
                for event in self._records.events(subscription.task_id, after=subscription.last_id):
                    subscription.put(event)
        self._fail_lost_tasks()

    def _fail_lost_tasks(self) -> None:
        """Make requests fail if the broker no longer has their task's record: it has lost its data.

        The task is listed as lost. Nobody else can: what was not waited for is gone without a trace.
        """
        for subscription in self.subscriptions():
            if subscription.created and not self._records.exists(subscription.task_id):
                # Whoever stopped this hub may have emptied the broker: nothing was lost.
                if self.loop.stop_requested:
                    return
                subscription.created = False
                subscription.fail(BrokerDataLost())
                self._records.note_lost(subscription.task_id)
