"""Bootsteps of the control worker: it has no engine, tells webhooks, and ends tasks that nobody starts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery import bootsteps, signals
from celery.worker import state

from graycat.batches.runner import runner
from graycat.batches.runner.runner import BatchRunner
from graycat.broker.client import connect
from graycat.egress import allowlist
from graycat.errors import BrokerUnavailable
from graycat.fleet.workers import WorkerRegistry, WorkerStatus
from graycat.queue.topology import CONTROL
from graycat.schedules.runner import ScheduleRunner
from graycat.settings import variable
from graycat.webhooks.deliveries import Deliveries
from graycat.webhooks.dispatcher import Dispatcher
from graycat.webhooks.http import PublicHttpClient
from graycat.webhooks.sender import WebhookSender
from graycat.worker.bootsteps import consumed_queues, has_engine
from graycat.worker.maintenance import REPORT_EVERY_S
from graycat.worker.periodic import PeriodicThread, renew_messages
from graycat.worker.protocols import CeleryConsumer, CeleryWorker
from graycat.worker.runtime import process
from graycat.worker.sweeper import Sweeper

logger = logging.getLogger(__name__)

#: Seconds between two looks at what is due: what a delivery waits at most where all is well.
DISPATCH_EVERY_S = 0.2
#: Seconds that the batch runner's last step may take at the end. A step that is cut short is repeated later.
STOP_S = 5.0
#: Seconds between two signs of life of the main loop.
BEAT_EVERY_S = 0.5


class Control:
    """What a control worker does beside its tasks. ``alone``: no engine's housekeeper shares the process."""

    def __init__(self, worker: CeleryWorker, *, alone: bool) -> None:
        app = worker.app
        settings = app.settings
        self._worker = worker
        self._client = connect(settings, patient=True)
        self._fleet = WorkerRegistry(self._client)
        self._deliveries = Deliveries(self._client)
        self._dispatcher = Dispatcher(self._client, self._deliveries, app)
        http = PublicHttpClient(allowlist(settings.webhook_allow))
        process.webhook_sender = WebhookSender(self._deliveries, http, settings)
        process.schedule_runner = ScheduleRunner(self._client, settings)
        duties: list[tuple[float, Callable[[], Any]]] = [(DISPATCH_EVERY_S, self._dispatch)]
        if alone:
            sweeper = Sweeper(self._client, settings, app)
            # Sweeps as well: with no engine's worker alive, nobody else would end what nobody starts.
            duties += [
                (settings.lease_s / 3, self._renew),
                (REPORT_EVERY_S, self._report),
                (settings.lease_s, sweeper.sweep),
            ]
        self._alone = alone
        self._duties = PeriodicThread("control", DISPATCH_EVERY_S, duties)
        # In a thread of its own: a disk or a bucket may be slow, and webhooks do not wait for it.
        self._batch_runner = BatchRunner(self._client, settings, app)
        every_s = runner.STEP_INTERVAL_S
        self._batch_thread = PeriodicThread("batches", every_s, [(every_s, self._batch_runner.step)])

    def start(self) -> None:
        """Start the threads."""
        self._duties.start()
        self._batch_thread.start()

    def stop(self, **_: Any) -> None:
        """Stop the threads and leave the fleet (also a receiver of Celery's ``worker_shutdown``)."""
        self._duties.stop()
        self._batch_thread.stop(STOP_S)
        self._batch_runner.stop()
        if self._alone:
            try:
                self._fleet.leave(self._worker.hostname)
            except BrokerUnavailable:
                logger.warning("broker gone before the worker could leave the fleet")

    def _dispatch(self) -> None:
        self._dispatcher.step(self._deliveries.now_ms())

    def _renew(self) -> None:
        renew_messages(self._client, self._worker.app.kind)

    def _report(self) -> None:
        self._fleet.report(
            WorkerStatus(
                name=self._worker.hostname,
                queues=consumed_queues(self._worker.app),
                engine="",
                engine_state="ready",
                consuming=process.heartbeat.alive,
                slots=self._worker.concurrency,
                busy=len(state.active_requests),
                props="",
            )
        )


class ControlStep(bootsteps.StartStopStep):
    """Starts the duties of a worker that takes the control queue; they go on until its last task is finished."""

    requires = ("celery.worker.components:Pool",)

    def include_if(self, worker: CeleryWorker) -> bool:
        """Leave workers alone that do not take the control queue."""
        return CONTROL in consumed_queues(worker.app)

    def start(self, worker: CeleryWorker) -> None:
        """Start the duties. Raises SettingsError where webhooks could not be told."""
        settings = worker.app.settings
        if not settings.embedded_broker and not settings.webhook_key:
            name = variable("webhook_key")
            logger.warning("webhooks are signed by a key of this machine only: set %s everywhere alike", name)
        control = Control(worker, alone=not has_engine(worker.app))
        control.start()
        signals.worker_shutdown.connect(control.stop, weak=False)


class PulseStep(bootsteps.StartStopStep):
    """Feels in the consumer's main loop whether that runs."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def include_if(self, consumer: CeleryConsumer) -> bool:
        """Leave workers alone whose gate does the same."""
        return CONTROL in consumed_queues(consumer.app) and not has_engine(consumer.app)

    def start(self, consumer: CeleryConsumer) -> None:
        """Begin to feel."""
        self._timer = consumer.timer.call_repeatedly(BEAT_EVERY_S, process.heartbeat.beat)

    def stop(self, _consumer: CeleryConsumer) -> None:
        """Stop feeling: the consumer takes no more."""
        self._timer.cancel()
        process.heartbeat.stop()
