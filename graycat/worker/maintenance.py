"""What a worker with an engine does beside its tasks: leases, deadlines, cancel marks, and reports to the fleet."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import asdict, replace
from typing import Any

from graycat.celeryapp import GraycatCelery
from graycat.engines import gpus
from graycat.engines.client import StopReason
from graycat.errors import BrokerUnavailable
from graycat.fleet.reports import WorkerStatus
from graycat.loops.threads import stuck_loops
from graycat.loops.unexpected import guarded
from graycat.queue.kinds import SLOTS
from graycat.queue.names import Lane, QueueName
from graycat.queue.topology import LLM
from graycat.storage.errors import ArtifactsUnavailable
from graycat.worker import engine_slots, web_disconnects
from graycat.worker.periodic import Duty, PeriodicThread, renew_messages
from graycat.worker.runtime import SCRIPTS_MISSING, EngineRuntime, Running, process
from graycat.worker.stream_relay import STOP_REASONS
from graycat.worker.sweeper import Sweeper
from graycat.worker.web_disconnects import AbandonedTasks

logger = logging.getLogger(__name__)

#: Seconds between two checks for attempts past their deadline.
TICK_INTERVAL_S = 0.25
#: Seconds between two reports to the fleet.
REPORT_INTERVAL_S = 1.0
#: Seconds between two looks whether the broker has this version's scripts.
SCRIPTS_INTERVAL_S = 1.0
#: Seconds between two readings of the GPU's state.
GPU_POLL_INTERVAL_S = 5.0
#: Seconds that the driver may take for the last reading at the end.
GPU_STOP_TIMEOUT_S = 1.0
#: Seconds that a search for expired images may take at the end. The next one goes on where it was cut short.
ARTIFACT_STOP_TIMEOUT_S = 1.0
#: Seconds between two searches for expired images.
ARTIFACT_SWEEP_INTERVAL_S = 60.0


class WorkerMaintenance:
    """The duties of a worker that has an engine: leases, deadlines, cancel marks, lost tasks, and reports."""

    def __init__(self, runtime: EngineRuntime, app: GraycatCelery) -> None:
        self._runtime = runtime
        self._kind = app.kind
        self._sweeper = Sweeper(runtime.client, runtime.settings, app)
        self._abandoned = AbandonedTasks(runtime)
        #: Held from what is read to what is written: an older view never overwrites a newer one.
        self._report_lock = threading.Lock()
        runtime.report = self._report
        lease_s = runtime.settings.lease_s
        duties = [
            Duty(TICK_INTERVAL_S, self._stop_overdue),
            Duty(lease_s / 3, self._renew),
            Duty(web_disconnects.CHECK_INTERVAL_S, self._abandoned.cancel_abandoned),
            Duty(SCRIPTS_INTERVAL_S, self._look_for_scripts),
            Duty(REPORT_INTERVAL_S, self._report),
            Duty(lease_s, self._sweeper.sweep),
        ]
        self._duties = PeriodicThread("maintenance", TICK_INTERVAL_S, duties)
        # In threads of their own: a slow bucket or a driver that hangs must not keep leases from being renewed.
        self._artifact_thread = PeriodicThread(
            "artifacts", TICK_INTERVAL_S, [Duty(ARTIFACT_SWEEP_INTERVAL_S, self._sweep_artifacts)]
        )
        self._gpu_thread = PeriodicThread("gpu", TICK_INTERVAL_S, [Duty(GPU_POLL_INTERVAL_S, self._read_gpu)])
        # Likewise: the engine may be amid a batch of tokens.
        self._slots_thread = PeriodicThread(
            "slots", TICK_INTERVAL_S, [Duty(engine_slots.REFRESH_INTERVAL_S, self._read_slots)]
        )

    def start(self) -> None:
        """Start the threads."""
        if self._runtime.gpu is not None:
            self._gpu_thread.start()
        self._artifact_thread.start()
        if LLM in self._runtime.queues:
            self._slots_thread.start()
        self._duties.start()

    def stop(self, **_: Any) -> None:
        """Stop the threads and leave the fleet (also a receiver of Celery's ``worker_shutdown``)."""
        self._gpu_thread.stop(GPU_STOP_TIMEOUT_S)
        self._artifact_thread.stop(ARTIFACT_STOP_TIMEOUT_S)
        self._slots_thread.stop(engine_slots.LOOK_TIMEOUT_S)
        self._duties.stop()
        self._abandoned.close()
        try:
            self._runtime.fleet.leave(self._runtime.name)
        except BrokerUnavailable:
            logger.warning("broker gone before the worker could leave the fleet")

    def _stop_overdue(self) -> None:
        """Stop attempts that are past their deadline."""
        now = time.monotonic()
        for running in self._runtime.running.all():
            if now > running.deadline:
                with guarded("maintenance"):
                    running.call.stop(StopReason.TIMED_OUT)

    def _renew(self) -> None:
        """Renew the messages and records of running tasks; stop those that were cancelled or taken over meanwhile."""
        with guarded("maintenance", let_through=(BrokerUnavailable,)):
            renew_messages(self._runtime.client, self._kind)
        for running in self._runtime.running.all():
            with guarded("maintenance", let_through=(BrokerUnavailable,)):
                self._renew_lease(running)

    def _renew_lease(self, running: Running) -> None:
        verdict = self._runtime.records.renew(running.attempt.task_id, running.attempt.number)
        # An attempt that has just ended is stale, too; then there is no call to stop any more.
        reason = STOP_REASONS.get(verdict)
        if reason is not None:
            running.call.stop(reason)

    def _sweep_artifacts(self) -> None:
        """Delete expired images, if the store does not do that by itself."""
        try:
            self._runtime.artifacts.sweep(time.time())
        except ArtifactsUnavailable:
            logger.warning("images cannot be swept")

    def _read_gpu(self) -> None:
        if self._runtime.gpu is not None:
            state = gpus.read_gpu_state(self._runtime.gpu)
            self._runtime.gpu_state = None if state is None else asdict(state)

    def _read_slots(self) -> None:
        if self._runtime.ready:
            self._runtime.engine_slots.refresh()

    def _look_for_scripts(self) -> None:
        """Note whether this version's scripts are in the broker; the gate is closed without them."""
        runtime = self._runtime
        was_loaded = runtime.scripts_loaded
        runtime.scripts_loaded = runtime.records.are_scripts_loaded()
        if was_loaded and not runtime.scripts_loaded:
            logger.error(SCRIPTS_MISSING)
        elif runtime.scripts_loaded and not was_loaded:
            logger.info("home has the scripts of this version of graycat")

    def _report(self) -> None:
        """Report to the fleet, and read which queues are paused. The gate does so, too, when it opens."""
        with self._report_lock:
            self._report_state()

    def _report_state(self) -> None:
        runtime = self._runtime
        supervisor = runtime.supervisor
        runtime.paused_queues = runtime.fleet.paused_queues()
        # The gate leaves a queue at its next look: until then this worker still takes tasks from it, and says so.
        not_consumed = (runtime.paused_queues | runtime.left_queues) - runtime.consumed_queues
        running = runtime.running.all()
        status = WorkerStatus(
            name=runtime.name,
            queues=runtime.queues,
            engine=runtime.engine.name,
            engine_state=supervisor.state.value,
            # The gate closes at its next look; an engine that is gone takes nothing from now on.
            consuming=runtime.gate_open and supervisor.ready.is_set() and process.serves,
            slots=runtime.slots,
            busy=len(running),
            busy_batch=sum(QueueName.parse(task.attempt.queue).lane == Lane.BATCH for task in running),
            props="",
            gpu=runtime.gpu,
            gpu_state=runtime.gpu_state,
            paused=runtime.paused,
            left=tuple(queue for queue in runtime.queues if queue in not_consumed),
            failures=supervisor.failures,
            trouble=supervisor.trouble or ("" if runtime.scripts_loaded else SCRIPTS_MISSING),
            crash_loop=supervisor.crash_loop,
            last_failure=supervisor.last_failure,
            retry_in_s=round(supervisor.retry_in_s, 1),
            stuck=tuple(stuck_loops()),
        )
        info = supervisor.info
        if info is None:
            runtime.fleet.report(status)
            return
        slots = runtime.engine_slots
        if slots.reply:
            info = replace(info, catalog={**info.catalog, SLOTS.path: slots.reply})
        status = replace(
            status,
            slots_age_s=round(slots.age_s, 1),
            props=info.props.decode(),
            models=info.models,
            model_list=info.model_list.decode(),
            catalog=info.version,
        )
        runtime.fleet.report(status, info.catalog)
