"""A worker's bootsteps: its engine starts before it consumes and stops after its last task; leases stay fresh."""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import Any

from celery import bootsteps, signals
from celery.worker.consumer import Consumer
from celery.worker.control import control_command
from celery.worker.state import maybe_shutdown

from graycat import families, tracing
from graycat.broker.client import connect
from graycat.celeryapp import GraycatCelery
from graycat.engines import factory as engines
from graycat.engines.client import StopReason
from graycat.gctuning import settle_memory
from graycat.queue.kinds import SKIP
from graycat.queue.models import Verdict
from graycat.settings import Settings
from graycat.worker import tracing as task_tracing
from graycat.worker.maintenance import WorkerMaintenance
from graycat.worker.protocols import CeleryWorker, EventLoop
from graycat.worker.runtime import Runtime, engine_runtime, process
from graycat.worker.stream_relay import STOP_REASONS

logger = logging.getLogger(__name__)

#: Seconds between two looks at the engine.
SUPERVISE_EVERY_S = 0.1
#: Seconds that events of tasks gather before they are published.
FLUSH_EVENTS_EVERY_S = 0.25
#: Seconds that one thread may keep the interpreter while others want it. The default of 5 ms shows in every token:
#: the main loop takes messages while tasks pass tokens on, and no thread here computes for long.
SWITCH_INTERVAL_S = 0.0005


def consumed_queues(app: GraycatCelery) -> tuple[str, ...]:
    """Return the names of the queues that a worker was told to take."""
    return tuple(app.amqp.queues.consume_from)


def has_engine(app: GraycatCelery) -> bool:
    """Return whether a worker's queues need an engine."""
    return families.find_by_queues(consumed_queues(app)) is not None


class PromptConsumer(Consumer):
    """A consumer that loses no time: not on its way back to the broker, and not on events beside a task."""

    def on_send_event_buffered(self) -> None:  # type: ignore[override]
        """Leave the event for the next flush; the stock consumer publishes up to three times a task, inside it."""

    def register_with_event_loop(self, hub: EventLoop) -> None:
        """Flush events on the clock: Flower is a quarter of a second late, and tasks are a millisecond faster."""
        super().register_with_event_loop(hub)
        hub.call_repeatedly(FLUSH_EVENTS_EVERY_S, self._flush_events)  # type: ignore[attr-defined]

    def ensure_connected(self, conn: Any) -> Any:
        """Return ``conn`` connected, however long the broker is away.

        The stock consumer waits 2, 4, 6 ... 30 s between its tries.
        """

        def report(error: Exception, interval_s: float) -> None:
            logger.error("broker unavailable", extra={"reason": error, "retry_in_s": interval_s})

        return conn.ensure_connection(
            report, None, interval_start=0.2, interval_step=0.2, interval_max=1, callback=maybe_shutdown
        )


class EngineStep(bootsteps.StartStopStep):
    """Starts the engine's supervision; the consumer's gate opens when the engine is ready."""

    requires = ("celery.worker.components:Timer",)

    def include_if(self, worker: CeleryWorker) -> bool:
        """Leave workers alone that need no engine."""
        return has_engine(worker.app)

    def start(self, worker: CeleryWorker) -> None:
        """Start supervising; never blocks, so that a shutdown during a model's load acts at once."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        settle_memory()
        app = worker.app
        self.runtime = create_runtime(app.settings, worker.hostname, consumed_queues(app), app.gpu)
        if app.settings.traces_url:
            task_tracing.install(self.runtime, tracing.start(app.settings, "worker", worker.hostname))
        process.engine = self.runtime
        self._stopping = threading.Event()
        # The engine dies with the thread that forks it, so one thread does every fork and lives as long as the worker.
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self._thread.start()
        # Not in stop(): that runs before the pool has finished its tasks.
        signals.worker_shutdown.connect(self._shut_down, weak=False)

    def _supervise(self) -> None:
        supervisor = self.runtime.supervisor
        while not self._stopping.wait(SUPERVISE_EVERY_S):
            supervisor.step(time.monotonic())
            self.runtime.keep_output_short()
        supervisor.stop()

    def close(self, _worker: CeleryWorker) -> None:
        """Let running tasks finish within the grace; then hand them back, or end those whose answer has begun.

        Called at the beginning of every warm shutdown: by a signal, or by Celery's ``shutdown``, which Flower sends.
        """

        def hand_back() -> None:
            for running in self.runtime.running.all():
                running.call.stop(StopReason.SHUTDOWN)

        timer = threading.Timer(self.runtime.grace_s, hand_back)
        timer.daemon = True
        timer.start()

    def _shut_down(self, **_: Any) -> None:
        self._stopping.set()
        self._thread.join()


class LeaseStep(bootsteps.StartStopStep):
    """Keeps what runs here from being run elsewhere, stops what is late or cancelled, and reports to the fleet."""

    requires = (EngineStep, "celery.worker.components:Pool")

    def include_if(self, worker: CeleryWorker) -> bool:
        """Leave workers alone that need no engine."""
        return has_engine(worker.app)

    def start(self, worker: CeleryWorker) -> None:
        """Start the housekeeping thread; it goes on until the last task is finished."""
        housekeeper = WorkerMaintenance(engine_runtime(), worker.app)
        housekeeper.start()
        signals.worker_shutdown.connect(housekeeper.stop, weak=False)


@control_command(args=[("task_id", str), ("how", str)], signature="TASK_ID cancel|interrupt|skip")
def stop_task(_state: Any, task_id: str, how: str = Verdict.CANCEL) -> dict[str, bool]:
    """Stop a running task's call to the engine; the record says that it may."""
    running = engine_runtime().running
    if how == SKIP:
        return {"ok": running.skip(task_id)}
    return {"ok": running.stop(task_id, STOP_REASONS[Verdict(how)])}


def create_runtime(settings: Settings, name: str, queues: tuple[str, ...], gpu: int | None = None) -> Runtime:
    """Return a worker's runtime. One that takes interactive tasks owns its engine; others adopt it where it listens."""
    family = families.find_by_queues(queues)
    if family is None:
        raise ValueError(f"none of the queues {', '.join(queues)} needs an engine")
    ours = engines.build_engine(settings, family, gpu, own=family.interactive in queues)
    client = connect(settings, patient=True)
    return Runtime(settings, name, queues, ours.engine, ours.supervisor, client, child=ours.child, gpu=ours.gpu)
