"""The event hub: one broker connection brings a web process the events of all tasks it waits for.

A task's record names the channels of the processes that wait for it, and the script that appends an event to the
task's stream pushes it there too. The stream stays the truth: after a lost connection the hub reads what it missed.
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

from graycat.broker import keys
from graycat.broker.connections import RawConnection
from graycat.broker.protocol import Broker
from graycat.errors import BrokerUnavailable, GraycatError
from graycat.queue.events import CHUNK, ERROR, TaskEvent, answer, event_order
from graycat.queue.records import TaskRecords
from graycat.web.streaming.direct import DirectWriter
from graycat.web.streaming.disconnect import READ

logger = logging.getLogger(__name__)

#: A connection on which nothing came for this many seconds is dead; pings see to it that something comes.
SILENT_AFTER_S = 6.0
RECONNECT_AFTER_S = 0.2


class Subscription:
    """One request's view of one task: its events in order, each once."""

    def __init__(self, task_id: str, after: str = "0") -> None:
        self.task_id = task_id
        self._last = event_order(after)
        self._last_id = after
        self._held: list[TaskEvent] | None = None
        self._holding = threading.Lock()
        self._events: queue.SimpleQueue[TaskEvent | None] = queue.SimpleQueue()
        #: Where chunks may go at once, while the request waits for the next event.
        self.direct: DirectWriter | None = None

    @property
    def last_id(self) -> str:
        """Return the id of the newest event that came."""
        return self._last_id

    @property
    def empty(self) -> bool:
        """Tell whether ``get`` would have to wait."""
        return self._events.empty()

    def hold(self) -> None:
        """Put what comes aside until ``resume``: older events are on their way."""
        self._held = []

    def resume(self, earlier: Iterable[TaskEvent]) -> None:
        """Take the earlier events, then those that were put aside."""
        with self._holding:
            for event in (*earlier, *(self._held or ())):
                self._hand_on(event)
            self._held = None

    def put(self, event: TaskEvent) -> None:
        """Take an event, unless it came before."""
        if self._held is not None:
            with self._holding:
                if self._held is not None:
                    self._held.append(event)
                    return
        self._hand_on(event)

    def _hand_on(self, event: TaskEvent) -> None:
        if event.order > self._last:
            self._last, self._last_id = event.order, event.id
            if not self._spouted(event):
                self._events.put(event)

    def _spouted(self, event: TaskEvent) -> bool:
        """Send a chunk past the waiting request, behind nothing that is meant for it; False where that cannot be."""
        spout = self.direct
        if spout is None or event.kind != CHUNK or not self.empty or not spout.send(event.data):
            return False
        if spout.rest:
            self.wake()
        return True

    def end(self, error: GraycatError) -> None:
        """Have the waiting request fail, whatever becomes of its task."""
        self._events.put(TaskEvent("", ERROR, answer(error.status, error.encoded())))

    def wake(self) -> None:
        """Have the waiting ``get`` return None; safe from any thread or callback."""
        self._events.put(None)

    def get(self, timeout_s: float) -> TaskEvent | None:
        """Return the next event; None when woken, or when none came in time."""
        try:
            return self._events.get(timeout=max(timeout_s, 0.001))
        except queue.Empty:
            return None


class EventHub:
    """Hands pushed events to the watches of this process."""

    def __init__(self, client: Broker, records: TaskRecords) -> None:
        self.channel = f"{keys.PREFIX}web:{uuid4().hex}"
        self._client = client
        self._records = records
        self._watches: dict[str, list[Subscription]] = {}
        # A list may go when its last watch does, but not while another one comes.
        self._changing = threading.Lock()
        self._heard_at = 0.0

    def start(self) -> None:
        """Start listening, in a thread (a greenlet under gevent)."""
        threading.Thread(target=self._run, name="hub", daemon=True).start()

    def watch(self, task_id: str) -> Subscription:
        """Return a watch of a task whose record is about to name this hub's channel."""
        return self._add(Subscription(task_id))

    def follow(self, task_id: str, after: str = "0") -> Subscription:
        """Return a watch of a task that is there already, from behind the event ``after`` on.

        Raises BrokerUnavailable.
        """
        watch = Subscription(task_id, after)
        watch.hold()
        self._add(watch)
        try:
            self._records.listen(task_id, self.channel)
            watch.resume(self._records.events(task_id, after=after))
        except BaseException:
            self.unwatch(watch)
            raise
        return watch

    def _add(self, watch: Subscription) -> Subscription:
        with self._changing:
            self._watches.setdefault(watch.task_id, []).append(watch)
        return watch

    def unwatch(self, watch: Subscription) -> None:
        """Forget a watch."""
        with self._changing:
            watches = self._watches.get(watch.task_id, [])
            if watch in watches:
                watches.remove(watch)
            if not watches:
                self._watches.pop(watch.task_id, None)

    def end_all(self, error: GraycatError) -> None:
        """Have every waiting request fail."""
        for watch in self._all():
            watch.end(error)

    def _all(self) -> list[Subscription]:
        return [watch for watches in list(self._watches.values()) for watch in watches]

    def _run(self) -> None:
        while True:
            try:
                self._listen()
            except (redis.ConnectionError, redis.TimeoutError, BrokerUnavailable) as error:
                logger.warning("hub lost its broker connection", extra={"reason": type(error).__name__})
                time.sleep(RECONNECT_AFTER_S)

    def _listen(self) -> None:
        """Hand events on until the connection breaks, or is silent though it was pinged."""
        lane = RawConnection(self._client)
        try:
            lane.send([("SUBSCRIBE", self.channel)])
            first = lane.read(1)
            # Behind the subscription, and ahead of what it has brought: a watch takes no older event after a newer one.
            self._catch_up()
            self._take_all(first)
            self._heard_at = time.monotonic()
            threading.Thread(target=self._ping, args=(lane,), name="hub-ping", daemon=True).start()
            self._relay(lane)
        except OSError as error:
            raise redis.ConnectionError from error
        finally:
            lane.close()

    def _relay(self, lane: RawConnection) -> None:
        """Hand events on as they come, in callbacks of the event loop; returns by an exception.

        Waking a greenlet for each token costs a fifth of what the web process does for it (docs/decisions/0015).
        """
        over: AsyncResult[None] = AsyncResult()
        lane.socket.setblocking(False)
        watcher = gevent.get_hub().loop.io(lane.socket.fileno(), READ)

        def readable() -> None:
            try:
                self._take_all(lane.arrived())
            except Exception as error:  # noqa: BLE001 (in gevent's own greenlet nobody would hear of it)
                watcher.stop()
                over.set_exception(error)

        watcher.start(readable)
        try:
            over.get()
        finally:
            watcher.stop()
            watcher.close()

    def _ping(self, lane: RawConnection) -> None:
        """Have the broker say something; shut the connection down when it no longer does."""
        with contextlib.suppress(OSError):
            try:
                while time.monotonic() - self._heard_at < SILENT_AFTER_S:
                    lane.send([("PING",)])
                    time.sleep(SILENT_AFTER_S / 3)
            finally:
                lane.socket.shutdown(socket.SHUT_RDWR)

    def _take_all(self, messages: Sequence[Any]) -> None:
        self._heard_at = time.monotonic()
        for message in messages:
            if isinstance(message, hiredis.ReplyError):
                raise redis.ConnectionError(str(message))
            if message[0] == b"message":
                task_id, event = TaskEvent.from_push(message[2])
                # A copy: one that leaves meanwhile must not hide the next.
                for watch in tuple(self._watches.get(task_id, ())):
                    watch.put(event)

    def _catch_up(self) -> None:
        for watch in self._all():
            for event in self._records.events(watch.task_id, after=watch.last_id):
                watch.put(event)
