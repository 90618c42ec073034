"""The consumer's gate: tasks are taken only while the engine is ready, and only as many as it has slots."""

from __future__ import annotations

from celery import bootsteps

from graycat.queue.topology import QUICK_QUEUES, engine_queues
from graycat.worker.bootsteps import consumed_queues, has_engine
from graycat.worker.protocols import CeleryConsumer, TimerEntry
from graycat.worker.runtime import engine_runtime, process

#: Seconds between two looks at the engine's state.
LOOK_EVERY_S = 0.1
#: Calls of the quick lane that one worker makes at once: they need no slot, and take milliseconds.
QUICK_CALLS = 4


class GateStep(bootsteps.StartStopStep):
    """Runs in the consumer's main loop, where queues may be joined and left safely.

    A reconnect to the broker restarts the consumer's steps, so nothing is kept here: ``start`` looks again.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def include_if(self, consumer: CeleryConsumer) -> bool:
        """Leave workers alone that need no engine."""
        return has_engine(consumer.app)

    def start(self, consumer: CeleryConsumer) -> None:
        """Close the gate, then open it at the first look that finds the engine ready."""
        self._runtime = engine_runtime()
        # A reconnect finds what was taken before it: nothing, where the gate was closed.
        self._joined = list(consumed_queues(consumer.app))
        self._queues = self._runtime.queues
        self._taken: list[str] = []
        self._timer: TimerEntry | None = None
        self._close(consumer)
        self._timer = consumer.timer.call_repeatedly(LOOK_EVERY_S, self._look, (consumer,))

    def stop(self, consumer: CeleryConsumer) -> None:
        """Stop looking. What runs goes on; the consumer takes no more by itself."""
        self._runtime.gate_open = False
        if self._timer is not None:
            self._timer.cancel()

    def _look(self, consumer: CeleryConsumer) -> None:
        process.heartbeat.beat()
        self._heed(consumer)
        wanted = self._wanted()
        if wanted != self._taken:
            self._close(consumer)
            # `worker_disable_prefetch` takes the pool's limit for how many tasks may be here at once.
            consumer.pool.limit = self._runtime.slots if QUICK_QUEUES.isdisjoint(self._queues) else QUICK_CALLS
            # All anew: their order is their priority.
            for queue in wanted:
                consumer.add_task_queue(queue)
            self._joined = self._taken = wanted
            self._runtime.gate_open = bool(wanted)

    def _heed(self, consumer: CeleryConsumer) -> None:
        """Take note of the queues that somebody has had this worker leave, or join again, behind the gate's back."""
        left = self._runtime.left_queues
        joined = {queue for queue in left if consumer.task_consumer.consuming_from(queue)}
        left |= {queue for queue in self._taken if not consumer.task_consumer.consuming_from(queue)}
        if joined:
            # At the end of the line; all are joined anew, in their order.
            left -= joined
            self._joined = [*self._taken, *joined]
            self._taken = []

    def _close(self, consumer: CeleryConsumer) -> None:
        self._runtime.gate_open = False
        for queue in self._joined:
            consumer.cancel_task_queue(queue)
        self._taken = []

    def _wanted(self) -> list[str]:
        """Return the queues to take from now: behind each, which anybody may serve, those for this engine."""
        runtime = self._runtime
        if runtime.paused or not runtime.supervisor.ready.is_set():
            return []
        gone = runtime.paused_queues | runtime.left_queues
        queues = [queue for queue in self._queues if queue not in gone]
        return [name for queue in queues for name in (queue, *self._own(queue)) if name not in gone]

    def _own(self, queue: str) -> list[str]:
        info = self._runtime.supervisor.info
        models = info.models if info is not None else ()
        return engine_queues(queue, models, self._runtime.name)
