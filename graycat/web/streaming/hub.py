"""The event hub: over one broker connection, a web process receives the events of all tasks that it waits for.

A task's record names the pub/sub channels of the web processes that wait for it; a process has one for each family of
engines. The script that appends an event to the task's stream also publishes it on these channels. What comes over a
family's channel about a task of another family is forged: workers may publish only to their own.

Pub/sub may lose messages, the stream does not: after a lost connection the hub reads from the streams what it missed.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import gevent
import hiredis
import redis
from gevent.event import AsyncResult

from graycat.broker import keys
from graycat.broker.connections import RawConnection, RawConnectionPool
from graycat.broker.protocol import Broker
from graycat.broker.scripts import ScriptLoader
from graycat.errors import BrokerUnavailable, GraycatError
from graycat.families import FAMILIES
from graycat.loops.threads import GuardedThread
from graycat.loops.unexpected import guarded, note
from graycat.metrics import web as metrics
from graycat.queue import ids
from graycat.queue.errors import BrokerDataLost, EventsGone
from graycat.queue.events import TaskEvent
from graycat.queue.records import TaskRecords
from graycat.web.streaming.backlog import MAX_PUSH_BYTES, FamilyBacklog
from graycat.web.streaming.disconnect import READABLE
from graycat.web.streaming.subscription import Subscription

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
        self._backlogs: dict[str, FamilyBacklog] = {}
        for channel in self.channels.values():
            self._subscriptions[channel.encode()] = {}
            self._backlogs[channel] = FamilyBacklog()
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
        return self._add(Subscription(task_id, family=self._backlogs[self.channel_of(task_id)]))

    def subscribe(self, task_id: str, after: str = "0") -> Subscription:
        """Return a subscription to an existing task, from the event after the id ``after`` on.

        The first of them are read at once, the others as they are taken. Raises BrokerUnavailable.
        """
        pages = self._records.event_pages(task_id, after)
        subscription = Subscription(task_id, after, self._backlogs[self.channel_of(task_id)], pages)
        self._add(subscription)
        try:
            self._records.subscribe(task_id, self.channel_of(task_id))
            subscription.read_page()
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
        subscription.close()
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
        if len(message) > MAX_PUSH_BYTES:
            metrics.PUSHES_DROPPED.labels("flood").inc()
            return
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
                self._read_missed(subscription)
        self._fail_lost_tasks()

    def _read_missed(self, subscription: Subscription) -> None:
        if subscription.note_missed():
            return
        try:
            for page in self._records.event_pages(subscription.task_id, subscription.last_id):
                for event in page:
                    subscription.put(event)
        except EventsGone as error:
            subscription.fail(error)

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
