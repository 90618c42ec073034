"""The gate of the consumer: a worker takes tasks only while its engine is ready, and only as many as it has slots."""

from __future__ import annotations

import logging
from contextlib import suppress

import redis
from celery import bootsteps
from kombu.exceptions import OperationalError

from graycat.errors import BrokerUnavailable
from graycat.loops import readiness
from graycat.loops.threads import is_held_up
from graycat.loops.unexpected import guarded
from graycat.queue.topology import QUICK_QUEUES, engine_queues
from graycat.worker.bootsteps import consumed_queues, has_engine
from graycat.worker.protocols import CeleryConsumer, TimerEntry
from graycat.worker.runtime import engine_runtime, process
from graycat.worker.waits import describe_ready

logger = logging.getLogger(__name__)

#: Seconds between two checks of the engine's state.
POLL_INTERVAL_S = 0.1
#: The most calls without a slot that one worker makes at once. Each takes milliseconds.
MAX_QUICK_CALLS = 4
#: What Celery handles by connecting to the broker again.
CONNECTION_ERRORS = (redis.RedisError, OperationalError, OSError)


class GateStep(bootsteps.StartStopStep):
    """Runs in the consumer's main loop, which is where a consumer may join and leave queues.

    A reconnect to the broker restarts the consumer's steps, so the step keeps nothing: ``start`` checks again.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def include_if(self, consumer: CeleryConsumer) -> bool:
        """Return whether the worker needs an engine."""
        return has_engine(consumer.app)

    def start(self, consumer: CeleryConsumer) -> None:
        """Close the gate. The first check that finds the engine ready opens it."""
        self._runtime = engine_runtime()
        self._queues = self._runtime.queues
        #: The queues to leave when the gate closes. After a reconnect: those that were consumed before it.
        self._joined = list(consumed_queues(consumer.app))
        #: The queues that the gate has joined; none while it is closed.
        self._consumed: list[str] = []
        self._timer: TimerEntry | None = None
        self._close(consumer)
        self._timer = consumer.timer.call_repeatedly(POLL_INTERVAL_S, self._poll, (consumer,))

    def stop(self, consumer: CeleryConsumer) -> None:
        """Stop checking. Running tasks go on, and the consumer takes no more by itself."""
        self._runtime.gate_open = False
        if self._timer is not None:
            self._timer.cancel()

    def _poll(self, consumer: CeleryConsumer) -> None:
        process.heartbeat.beat()
        with guarded("gate", let_through=CONNECTION_ERRORS):
            self._notice_remote_control(consumer)
            wanted = self._list_wanted_queues()
            if wanted != self._consumed:
                was_open = self._runtime.gate_open
                self._close(consumer)
                self._open(consumer, wanted)
                self._tell(was_open=was_open)

    def _tell(self, *, was_open: bool) -> None:
        """Tell that the worker begins to take tasks, or ceases to."""
        if self._runtime.gate_open and not was_open:
            text = describe_ready(self._runtime)
            if not readiness.tell_ready(text):
                logger.info("ready", extra={"takes": text})
        elif was_open and not self._runtime.gate_open:
            logger.info("takes no tasks", extra={"reason": self._runtime.idle_reason})

    def _notice_remote_control(self, consumer: CeleryConsumer) -> None:
        """Notice which queues Celery's remote control had the consumer leave, or join again, since the last check."""
        left = self._runtime.left_queues
        rejoined = {queue for queue in left if consumer.task_consumer.consuming_from(queue)}
        left.update(queue for queue in self._consumed if not consumer.task_consumer.consuming_from(queue))
        if rejoined:
            left -= rejoined
            # Celery joined them behind the others. Leave all and join them again, in their order.
            self._joined = [*self._consumed, *rejoined]
            self._consumed = []

    def _open(self, consumer: CeleryConsumer, queues: list[str]) -> None:
        # With `worker_disable_prefetch`, the pool's limit is how many tasks the consumer takes at once.
        if QUICK_QUEUES.isdisjoint(self._queues):
            consumer.pool.limit = self._runtime.slots
        else:
            consumer.pool.limit = MAX_QUICK_CALLS
        # The order in which queues are joined is their priority.
        for queue in queues:
            consumer.add_task_queue(queue)
        self._joined = queues
        self._consumed = queues
        self._runtime.consumed_queues = frozenset(queues)
        self._runtime.gate_open = bool(queues)
        if queues:
            # Before the first task is taken: a client that has a completion may ask for the model at once.
            with suppress(BrokerUnavailable):
                self._runtime.report()

    def _close(self, consumer: CeleryConsumer) -> None:
        self._runtime.gate_open = False
        for queue in self._joined:
            consumer.cancel_task_queue(queue)
        self._consumed = []
        self._runtime.consumed_queues = frozenset()

    def _list_wanted_queues(self) -> list[str]:
        """Return the queues to consume now: each queue that any engine may serve, and then those for this engine."""
        runtime = self._runtime
        if runtime.paused or not runtime.supervisor.ready.is_set() or not runtime.scripts_loaded or is_held_up():
            return []
        info = runtime.supervisor.info
        models = () if info is None else info.models
        excluded = runtime.excluded_queues
        wanted: list[str] = []
        for queue in self._queues:
            if queue not in excluded:
                wanted.append(queue)
                own_queues = engine_queues(queue, models, runtime.name)
                wanted += [name for name in own_queues if name not in excluded]
        return wanted
