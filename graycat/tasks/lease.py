"""Housekeeping of a worker: leases, deadlines, cancel marks, and its report to the fleet."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from celery import Celery
from celery.worker import state

from graycat import store
from graycat.engines.http import Stop
from graycat.errors import ArtifactsUnavailable, BrokerUnavailable
from graycat.fleet import WorkerStatus
from graycat.tasks.pump import STOPS
from graycat.tasks.runtime import Runtime
from graycat.tasks.sweeper import Sweeper

logger = logging.getLogger(__name__)

#: Seconds between two looks at the deadlines.
TICK_S = 0.25
#: Seconds between two reports to the fleet.
REPORT_EVERY_S = 1.0
#: Seconds between two looks for images whose time is up.
SWEEP_IMAGES_EVERY_S = 60.0
#: A main loop that was not seen for this many seconds does not consume, whatever the gate says.
LOOP_STUCK_AFTER_S = 3.0
#: Where kombu keeps the delivery tags of unacknowledged messages, by the time of their delivery.
UNACKED_INDEX = "unacked_index"


class Housekeeper:
    """A thread beside the tasks. What it does is due by the clock, so a slow broker delays it and nothing else."""

    def __init__(self, runtime: Runtime, app: Celery) -> None:
        self._runtime = runtime
        self._sweeper = Sweeper(runtime.client, runtime.settings, app)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeper", daemon=True)
        runtime.report = self._report
        lease_every_s = runtime.settings.lease_s / 3
        self._duties = [
            (TICK_S, self._stop_late),
            (lease_every_s, self._renew),
            (REPORT_EVERY_S, self._report),
            (runtime.settings.lease_s, self._sweeper.sweep),
            (SWEEP_IMAGES_EVERY_S, self._sweep_images),
        ]

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, **_: Any) -> None:
        """Stop the thread and leave the fleet (also a receiver of Celery's ``worker_shutdown``)."""
        self._stopping.set()
        self._thread.join()
        try:
            self._runtime.fleet.leave(self._runtime.name)
        except BrokerUnavailable:
            logger.warning("broker gone before the worker could leave the fleet")

    def _run(self) -> None:
        due = [0.0] * len(self._duties)
        while not self._stopping.wait(TICK_S):
            for place, (every_s, duty) in enumerate(self._duties):
                if time.monotonic() < due[place]:
                    continue
                due[place] = time.monotonic() + every_s
                try:
                    duty()
                except BrokerUnavailable:
                    logger.warning("broker unavailable", extra={"duty": duty.__name__})

    def _stop_late(self) -> None:
        """Stop attempts that ran past their deadline."""
        now = time.monotonic()
        for running in self._runtime.running.all():
            if now > running.deadline:
                running.call.stop(Stop.TIMED_OUT)

    def _renew(self) -> None:
        """Keep messages and records of what runs here; stop what was cancelled or taken over meanwhile."""
        reserved = _snapshot(state.reserved_requests)
        tags = [request.message.delivery_tag for request in reserved if not request.acknowledged]
        if tags:
            # XX: never bring a message back that was acknowledged a moment ago.
            with store.broker_errors():
                self._runtime.client.zadd(UNACKED_INDEX, dict.fromkeys(tags, time.time()), xx=True)
        for running in self._runtime.running.all():
            verdict = self._runtime.records.renew(running.attempt.task_id, running.attempt.number)
            # Also stale where it has just ended: then the stop finds nothing to stop.
            if reason := STOPS.get(verdict):
                running.call.stop(reason)

    def _sweep_images(self) -> None:
        """Delete the images whose time is up, where the store does not do that by itself."""
        try:
            self._runtime.artifacts.sweep(time.time())
        except ArtifactsUnavailable:
            logger.warning("images cannot be swept")

    def _report(self) -> None:
        runtime = self._runtime
        alive = time.monotonic() - runtime.loop_seen_at < LOOP_STUCK_AFTER_S
        info = runtime.supervisor.info
        runtime.fleet.report(
            WorkerStatus(
                name=runtime.name,
                queues=runtime.queues,
                engine=runtime.engine.name,
                engine_state=runtime.supervisor.state.value,
                consuming=runtime.gate_open and alive,
                slots=runtime.slots,
                busy=len(runtime.running.all()),
                props=info.props.decode() if info is not None else "",
                models=info.models if info is not None else (),
                model_list=info.model_list.decode() if info is not None else "",
                catalog=info.version if info is not None else "",
            ),
            info.catalog if info is not None else None,
        )


def _snapshot(requests: Any) -> list[Any]:
    """Return Celery's set of requests as a list; it changes in other threads while it is read."""
    while True:
        try:
            return list(requests)
        except RuntimeError:
            continue
