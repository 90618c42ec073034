"""Bootsteps of a worker with an engine: the engine starts before the worker consumes and stops after its last task."""

from __future__ import annotations

import logging
import sys
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
from graycat.gctuning import settle_memory
from graycat.loops import readiness
from graycat.loops.threads import GuardedThread
from graycat.loops.unexpected import guarded
from graycat.queue.kinds import SKIP
from graycat.queue.models import Verdict
from graycat.settings import Settings
from graycat.worker import tracing as task_tracing
from graycat.worker import unknown_kinds
from graycat.worker.maintenance import WorkerMaintenance
from graycat.worker.protocols import CeleryWorker, EventLoop
from graycat.worker.runtime import EngineRuntime, engine_runtime, process
from graycat.worker.stream_relay import STOP_REASONS
from graycat.worker.waits import describe_wait

logger = logging.getLogger(__name__)

#: Seconds between two steps of the engine's supervisor.
SUPERVISE_INTERVAL_S = 0.1
#: Seconds that Celery's events of tasks gather before they are sent.
FLUSH_EVENTS_INTERVAL_S = 0.25
#: Seconds that one thread may keep the interpreter while others wait for it. The default of 5 ms delays every token:
#: the main loop takes messages while the stream relay passes tokens on, and no thread here computes for long.
SWITCH_INTERVAL_S = 0.0005


def consumed_queues(app: GraycatCelery) -> tuple[str, ...]:
    """Return the names of the queues that a worker consumes."""
    return tuple(app.amqp.queues.consume_from)


def has_engine(app: GraycatCelery) -> bool:
    """Return whether a worker's queues need an engine."""
    return families.find_by_queues(consumed_queues(app)) is not None


class LowLatencyConsumer(Consumer):
    """A consumer that reconnects to the broker quickly, and sends no events while a task runs."""

    def on_send_event_buffered(self) -> None:  # type: ignore[override]
        """Leave the event for the next flush. The stock consumer sends up to three times in each task."""

    def register_with_event_loop(self, hub: EventLoop) -> None:
        """Flush events by the clock: Flower is a quarter of a second late, and tasks are a millisecond faster."""
        super().register_with_event_loop(hub)
        hub.call_repeatedly(FLUSH_EVENTS_INTERVAL_S, self._flush_events)  # type: ignore[attr-defined]

    def ensure_connected(self, conn: Any) -> Any:
        """Return ``conn`` connected, however long the broker is away.

        The stock consumer waits 2, 4, 6 ... 30 s between its attempts.
        """

        def report(error: Exception, interval_s: float) -> None:
            logger.error("broker unavailable", extra={"reason": error, "retry_in_s": interval_s})

        return conn.ensure_connection(
            report, None, interval_start=0.2, interval_step=0.2, interval_max=1, callback=maybe_shutdown
        )


class EngineStep(bootsteps.StartStopStep):
    """Starts the engine's supervisor. The consumer's gate opens when the engine is ready."""

    requires = ("celery.worker.components:Timer",)

    def include_if(self, worker: CeleryWorker) -> bool:
        """Return whether the worker needs an engine."""
        return has_engine(worker.app)

    def start(self, worker: CeleryWorker) -> None:
        """Start the supervisor. Does not block, so that a shutdown acts at once even while a model loads."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        settle_memory()
        app = worker.app
        self.runtime = create_runtime(app.settings, worker.hostname, consumed_queues(app), app.gpu)
        if app.settings.traces_url:
            task_tracing.install(self.runtime, tracing.start(app.settings, "worker", worker.hostname))
        process.engine, process.records = self.runtime, self.runtime.records
        #: What a supervisor of this process was told last that it waits for.
        self._told: tuple[str, float | None] | None = None
        # The engine dies with the thread that forks it, so one thread forks always, and lives as long as the worker.
        self._loop = GuardedThread("supervisor", self._supervise)
        self._loop.start()
        signals.task_unknown.connect(unknown_kinds.refuse, weak=False)
        # Not in stop(): that runs before the pool has finished its tasks.
        signals.worker_shutdown.connect(self._shut_down, weak=False)

    def _supervise(self) -> None:
        supervisor = self.runtime.supervisor
        while not self._loop.wait_for_stop(SUPERVISE_INTERVAL_S):
            self._loop.beat()
            with guarded("supervisor"):
                supervisor.step(time.monotonic())
            with guarded("supervisor"):
                self.runtime.rotate_output()
                self._tell_wait()
            self._loop.rest()
        supervisor.stop()

    def _tell_wait(self) -> None:
        """Tell a supervisor of this process what it waits for, each time that this changes."""
        if self.runtime.gate_open or not readiness.is_heard():
            self._told = None
            return
        wait = describe_wait(self.runtime)
        if wait != self._told:
            self._told = wait
            readiness.tell_wait(*wait)

    def _shut_down(self, **_: Any) -> None:
        self._loop.request_stop()
        self._loop.join()


class MaintenanceStep(bootsteps.StartStopStep):
    """Renews the leases of running tasks, stops overdue and cancelled ones, and reports to the fleet."""

    requires = (EngineStep, "celery.worker.components:Pool")

    def include_if(self, worker: CeleryWorker) -> bool:
        """Return whether the worker needs an engine."""
        return has_engine(worker.app)

    def start(self, worker: CeleryWorker) -> None:
        """Start the maintenance thread. It goes on until the last task is finished."""
        maintenance = WorkerMaintenance(engine_runtime(), worker.app)
        maintenance.start()
        signals.worker_shutdown.connect(maintenance.stop, weak=False)


@control_command(args=[("task_id", str), ("how", str)], signature="TASK_ID cancel|interrupt|skip")
def stop_task(_state: Any, task_id: str, how: str = Verdict.CANCEL, **_: Any) -> dict[str, bool]:
    """Stop a running task's call to the engine. The sender has marked the task's record before."""
    running = engine_runtime().running
    if how == SKIP:
        return {"ok": running.skip(task_id)}
    return {"ok": running.stop(task_id, STOP_REASONS[Verdict(how)])}


def create_runtime(settings: Settings, name: str, queues: tuple[str, ...], gpu: int | None = None) -> EngineRuntime:
    """Return the runtime of a worker's engine.

    A worker of interactive tasks owns its engine. Other workers use the one that listens at its address. Queues of
    other families, which Celery's own ``worker`` command takes by default, are left out: the engine cannot serve them.
    """
    family = families.find_by_queues(queues)
    if family is None:
        raise ValueError(f"none of the queues {', '.join(queues)} needs an engine")
    queues = tuple(queue for queue in queues if families.find_by_kind(queue) in (family, None))
    built = engines.build_engine(settings, family, gpu, own=family.interactive in queues)
    client = connect(settings, patient=True)
    return EngineRuntime(
        settings, name, queues, built.engine, built.supervisor, client, child=built.child, gpu=built.gpu
    )
