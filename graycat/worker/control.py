"""Bootsteps of the control worker: it has no engine, sends webhooks, runs batches, and expires and rescues tasks."""

from __future__ import annotations

import logging
from typing import Any

from celery import bootsteps, signals
from celery.worker import state

from graycat.batches.runner.runner import STEP_INTERVAL_S, BatchRunner
from graycat.broker.client import broker_errors, connect
from graycat.broker.connections import RawConnectionPool
from graycat.broker.scripts import ScriptLoader
from graycat.broker.wrong_types import may_move
from graycat.egress import allowlist
from graycat.errors import BrokerUnavailable
from graycat.fleet.reports import WorkerStatus
from graycat.fleet.workers import WorkerRegistry
from graycat.loops import readiness
from graycat.loops.threads import stuck_loops
from graycat.queue.migration import Migration
from graycat.queue.records import TaskRecords
from graycat.queue.stored import StoredBytes
from graycat.queue.topology import CONTROL
from graycat.schedules.runner import ScheduleRunner
from graycat.settings import variable
from graycat.usage.counter import UsageCounter
from graycat.webhooks.deliveries import Deliveries
from graycat.webhooks.dispatcher import Dispatcher
from graycat.webhooks.hooks import Hooks
from graycat.webhooks.http import PublicHttpClient
from graycat.webhooks.sender import WebhookSender
from graycat.worker import unknown_kinds
from graycat.worker.bootsteps import consumed_queues, has_engine
from graycat.worker.box_keys import BoxKeys
from graycat.worker.ended_tokens import INTERVAL_S, EndedTokens
from graycat.worker.maintenance import REPORT_INTERVAL_S, SCRIPTS_INTERVAL_S
from graycat.worker.periodic import Duty, PeriodicThread, renew_messages
from graycat.worker.protocols import CeleryConsumer, CeleryWorker
from graycat.worker.runtime import process
from graycat.worker.sweeper import Sweeper
from graycat.worker.wrong_keys import mend_batch_turn, move_foreign_locks, move_wrong_keys

logger = logging.getLogger(__name__)

#: Seconds between two checks for due deliveries: the most that a delivery waits if nothing is wrong.
DISPATCH_INTERVAL_S = 0.2
#: Seconds between two looks for keys of another type than ours: while there is one, nobody's tasks may be accepted.
WRONG_KEYS_INTERVAL_S = 1.0
#: Seconds between two looks for what tasks do not hold in the broker any more, and between two counts of it all.
SETTLE_INTERVAL_S = 1.0
RECOUNT_INTERVAL_S = 60.0
#: Seconds between two looks for ended tasks whose usage is not counted yet.
USAGE_INTERVAL_S = 1.0
#: Seconds that the batch runner's last step may take at the end. A step that is cut short is repeated later.
BATCH_STOP_TIMEOUT_S = 5.0
#: Seconds between two heartbeats of the main loop.
HEARTBEAT_INTERVAL_S = 0.5


class ControlDuties:
    """What a control worker does beside its tasks.

    ``alone``: the process has no engine, so no WorkerMaintenance renews its leases and reports to the fleet.
    """

    def __init__(self, worker: CeleryWorker, *, alone: bool) -> None:
        app = worker.app
        settings = app.settings
        self._worker = worker
        self._alone = alone
        self._queues = consumed_queues(app)
        self._client = connect(settings, patient=True)
        self._fleet = WorkerRegistry(self._client)
        self._deliveries = Deliveries(self._client)
        self._hooks = Hooks(self._client)
        self._dispatcher = Dispatcher(self._client, self._deliveries, app)
        http = PublicHttpClient(allowlist(settings.webhook_allow))
        process.webhook_sender = WebhookSender(self._deliveries, http, settings)
        process.schedule_runner = ScheduleRunner(self._client, settings)
        # This client may access the tasks of all families.
        process.records = TaskRecords(self._client, settings)

        self._stored = StoredBytes(self._client)
        usage = UsageCounter(self._client, settings)
        duties = [
            Duty(DISPATCH_INTERVAL_S, self._dispatch),
            Duty(USAGE_INTERVAL_S, usage.step),
            Duty(SETTLE_INTERVAL_S, self._stored.settle),
            Duty(RECOUNT_INTERVAL_S, self._recount_stored),
        ]
        if may_move(settings):
            duties.append(Duty(WRONG_KEYS_INTERVAL_S, self._move_wrong_keys))
            self._migration = Migration(self._client)
            duties.append(Duty(WRONG_KEYS_INTERVAL_S, self._migration.step))
            self._box_keys = BoxKeys(self._client)
            duties.append(Duty(WRONG_KEYS_INTERVAL_S, self._box_keys.step))
        # Boxes wait for a script that a broker without its data, or SCRIPT FLUSH, has lost.
        self._scripts = ScriptLoader(RawConnectionPool(self._client))
        duties.append(Duty(SCRIPTS_INTERVAL_S, self._load_scripts))
        duties.append(Duty(INTERVAL_S, EndedTokens(self._client, settings, app).step))
        if alone:
            sweeper = Sweeper(self._client, settings, app)
            duties += [
                Duty(settings.lease_s / 3, self._renew),
                Duty(REPORT_INTERVAL_S, self._report),
                # While no worker with an engine is alive, only this one can expire tasks.
                Duty(settings.lease_s, sweeper.sweep),
            ]
        self._duties = PeriodicThread("control", DISPATCH_INTERVAL_S, duties)
        # In a thread of its own: a disk or a bucket may be slow, and webhooks must not wait for it.
        self._batch_runner = BatchRunner(self._client, settings, app)
        self._batch_thread = PeriodicThread(
            "batch steps", STEP_INTERVAL_S, [Duty(STEP_INTERVAL_S, self._batch_runner.step)]
        )

    def start(self) -> None:
        """Start the threads."""
        self._duties.start()
        self._batch_thread.start()

    def stop(self, **_: Any) -> None:
        """Stop the threads and leave the fleet (also a receiver of Celery's ``worker_shutdown``)."""
        self._duties.stop()
        self._batch_thread.stop(BATCH_STOP_TIMEOUT_S)
        self._batch_runner.stop()
        if self._alone:
            try:
                self._fleet.leave(self._worker.hostname)
            except BrokerUnavailable:
                logger.warning("broker gone before the worker could leave the fleet")

    def _dispatch(self) -> None:
        self._hooks.observe(self._deliveries.now_ms())
        self._dispatcher.step(self._deliveries.now_ms())

    def _move_wrong_keys(self) -> None:
        move_wrong_keys(self._client)
        move_foreign_locks(self._client)
        mend_batch_turn(self._client)

    def _load_scripts(self) -> None:
        with broker_errors():
            self._scripts.load_missing()

    def _recount_stored(self) -> None:
        wrong = self._stored.recount()
        if wrong > 0:
            logger.warning("accounts of stored bytes were wrong", extra={"count": wrong})

    def _renew(self) -> None:
        renew_messages(self._client, self._worker.app.kind)

    def _report(self) -> None:
        # Celery's ``cancel_consumer`` takes a queue away.
        consumed = consumed_queues(self._worker.app)
        self._fleet.report(
            WorkerStatus(
                name=self._worker.hostname,
                queues=self._queues,
                engine="",
                engine_state="ready",
                consuming=bool(consumed) and process.serves,
                left=tuple(queue for queue in self._queues if queue not in consumed),
                slots=self._worker.concurrency,
                busy=len(state.active_requests),
                props="",
                stuck=tuple(stuck_loops()),
            )
        )


class ControlStep(bootsteps.StartStopStep):
    """Starts the duties of a worker that takes the control queue. They go on until its last task is finished."""

    requires = ("celery.worker.components:Pool",)

    def include_if(self, worker: CeleryWorker) -> bool:
        """Return whether the worker takes the control queue."""
        return CONTROL in consumed_queues(worker.app)

    def start(self, worker: CeleryWorker) -> None:
        """Start the duties. Raises SettingsError if the settings of webhooks are wrong."""
        settings = worker.app.settings
        if not settings.embedded_broker and not settings.webhook_key:
            name = variable("webhook_key")
            logger.warning("webhooks are signed with a key of this machine only: set %s to one key everywhere", name)
        duties = ControlDuties(worker, alone=not has_engine(worker.app))
        duties.start()
        signals.worker_shutdown.connect(duties.stop, weak=False)
        signals.task_unknown.connect(unknown_kinds.refuse, weak=False)


class HeartbeatStep(bootsteps.StartStopStep):
    """Keeps the heartbeat of the consumer's main loop."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def include_if(self, consumer: CeleryConsumer) -> bool:
        """Return whether the worker has no gate, which would keep the heartbeat."""
        return CONTROL in consumed_queues(consumer.app) and not has_engine(consumer.app)

    def start(self, consumer: CeleryConsumer) -> None:
        """Begin to beat."""
        self._timer = consumer.timer.call_repeatedly(HEARTBEAT_INTERVAL_S, process.heartbeat.beat)
        if not readiness.tell_ready():
            logger.info("ready")

    def stop(self, _consumer: CeleryConsumer) -> None:
        """Stop the heartbeat: the consumer takes no more tasks."""
        self._timer.cancel()
        process.heartbeat.stop()
