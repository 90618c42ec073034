"""Housekeeping of a worker: leases, deadlines, cancel marks, and its report to the fleet."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from typing import Any

from graycat.celeryapp import GraycatCelery
from graycat.engines import gpus
from graycat.engines.client import StopReason
from graycat.errors import BrokerUnavailable
from graycat.fleet.workers import WorkerStatus
from graycat.storage.errors import ArtifactsUnavailable
from graycat.worker.periodic import PeriodicThread, renew_messages
from graycat.worker.runtime import Runtime, process
from graycat.worker.stream_relay import STOP_REASONS
from graycat.worker.sweeper import Sweeper

logger = logging.getLogger(__name__)

#: Seconds between two looks at the deadlines.
TICK_S = 0.25
#: Seconds between two reports to the fleet.
REPORT_EVERY_S = 1.0
#: Seconds between two questions to a GPU how it is doing.
ASK_GPU_EVERY_S = 5.0
#: Seconds that a driver gets to answer the last one at the end.
GPU_PATIENCE_S = 1.0
#: Seconds between two looks for images whose time is up.
SWEEP_IMAGES_EVERY_S = 60.0


class WorkerMaintenance:
    """The duties of a worker that owns an engine."""

    def __init__(self, runtime: Runtime, app: GraycatCelery) -> None:
        self._runtime = runtime
        self._kind = app.kind
        self._sweeper = Sweeper(runtime.client, runtime.settings, app)
        runtime.report = self._report
        duties = [
            (TICK_S, self._stop_late),
            (runtime.settings.lease_s / 3, self._renew),
            (REPORT_EVERY_S, self._report),
            (runtime.settings.lease_s, self._sweeper.sweep),
            (SWEEP_IMAGES_EVERY_S, self._sweep_images),
        ]
        self._duties = PeriodicThread("housekeeper", TICK_S, duties)
        # By itself: a driver that hangs must not keep leases from being renewed.
        self._gpu_duties = PeriodicThread("gpu", TICK_S, [(ASK_GPU_EVERY_S, self._ask_gpu)])

    def start(self) -> None:
        """Start the threads."""
        if self._runtime.gpu is not None:
            self._gpu_duties.start()
        self._duties.start()

    def stop(self, **_: Any) -> None:
        """Stop the threads and leave the fleet (also a receiver of Celery's ``worker_shutdown``)."""
        self._gpu_duties.stop(GPU_PATIENCE_S)
        self._duties.stop()
        try:
            self._runtime.fleet.leave(self._runtime.name)
        except BrokerUnavailable:
            logger.warning("broker gone before the worker could leave the fleet")

    def _stop_late(self) -> None:
        """Stop attempts that ran past their deadline."""
        now = time.monotonic()
        for running in self._runtime.running.all():
            if now > running.deadline:
                running.call.stop(StopReason.TIMED_OUT)

    def _renew(self) -> None:
        """Keep messages and records of what runs here; stop what was cancelled or taken over meanwhile."""
        renew_messages(self._runtime.client, self._kind)
        for running in self._runtime.running.all():
            verdict = self._runtime.records.renew(running.attempt.task_id, running.attempt.number)
            # Also stale where it has just ended: then the stop finds nothing to stop.
            if reason := STOP_REASONS.get(verdict):
                running.call.stop(reason)

    def _sweep_images(self) -> None:
        """Delete the images whose time is up, where the store does not do that by itself."""
        try:
            self._runtime.artifacts.sweep(time.time())
        except ArtifactsUnavailable:
            logger.warning("images cannot be swept")

    def _ask_gpu(self) -> None:
        """Ask the GPU how it is doing."""
        state = gpus.read_gpu_state(self._runtime.gpu) if self._runtime.gpu is not None else None
        self._runtime.gpu_state = asdict(state) if state is not None else None

    def _report(self) -> None:
        runtime = self._runtime
        runtime.paused_queues = runtime.fleet.paused_queues()
        info = runtime.supervisor.info
        runtime.fleet.report(
            WorkerStatus(
                name=runtime.name,
                queues=runtime.queues,
                engine=runtime.engine.name,
                engine_state=runtime.supervisor.state.value,
                consuming=runtime.gate_open and process.heartbeat.alive,
                slots=runtime.slots,
                busy=len(runtime.running.all()),
                props=info.props.decode() if info is not None else "",
                models=info.models if info is not None else (),
                model_list=info.model_list.decode() if info is not None else "",
                catalog=info.version if info is not None else "",
                gpu=runtime.gpu,
                gpu_state=runtime.gpu_state,
                paused=runtime.paused,
                left=tuple(queue for queue in runtime.queues if queue in runtime.paused_queues | runtime.left_queues),
                failures=runtime.supervisor.failures,
                trouble=runtime.supervisor.trouble,
                crash_loop=runtime.supervisor.crash_loop,
                last_failure=runtime.supervisor.last_failure,
                retry_in_s=round(runtime.supervisor.retry_in_s, 1),
            ),
            info.catalog if info is not None else None,
        )
