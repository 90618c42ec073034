"""The batch runner: moves all live batches forward, and keeps a few of their items on the queue ``sd.batch``.

It runs in a periodic thread of the control worker. The queue never holds more than a few items for each engine.
Everything that decides whether an item may start (pause, time window, limit of GPUs, turns, deadline) is therefore
decided here, just before the item starts, and a pause has to withdraw only a few. Any number of control workers may
run: a lock lets one of them run the batches. Every step can be repeated, so a kill loses nothing.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from celery import Celery
from redis.exceptions import LockError

from graycat.batches.errors import OutputUnavailable
from graycat.batches.items import BatchItems
from graycat.batches.live import LiveBatch, LiveBatches
from graycat.batches.output import Output, Outputs
from graycat.batches.records import BatchRecords
from graycat.batches.runner.collector import Collector
from graycat.batches.runner.finisher import BatchFinisher
from graycat.batches.runner.preparer import BatchNotPreparable, Preparer
from graycat.batches.runner.prompt_writer import PromptWriter
from graycat.batches.runner.submitter import BatchSubmitter
from graycat.batches.states import ENDED, WAITING
from graycat.batches.throughput import ThroughputStats
from graycat.broker.client import broker_errors, now_ms
from graycat.broker.keys import BATCH_RUNNER_LOCK
from graycat.broker.protocol import Broker
from graycat.errors import BrokerUnavailable
from graycat.fleet.catalogs import Catalogs
from graycat.fleet.workers import WorkerRegistry, select_serving
from graycat.loops.unexpected import guarded, note
from graycat.queue.messages import MessageFactory
from graycat.queue.records import TaskRecords
from graycat.queue.topology import SD_BATCH
from graycat.settings import Settings
from graycat.storage import open_artifacts

logger = logging.getLogger(__name__)

#: Seconds between two steps. An engine may wait this long for the item after the next.
STEP_INTERVAL_S = 0.2
#: If a control worker dies, another one runs the batches after this many seconds.
LOCK_TIMEOUT_S = 5.0
#: Items in flight for each engine: one that is rendered, one that waits behind it.
MIN_ITEMS_PER_ENGINE = 2
#: If items are quick, more of them are in flight, so that each engine has work for this many seconds.
WORK_AHEAD_S = 1.0
MAX_ITEMS_PER_ENGINE = 16
#: Seconds between two tries to write an output that was unavailable.
OUTPUT_RETRY_INTERVAL_S = 5.0
#: A batch ends after this many unexpected errors. Seconds until it is tried again after the first one; they double.
MAX_DEFECTS = 4
DEFECT_RETRY_INTERVAL_S = 5.0
#: Errors that are older than this many seconds do not count.
DEFECT_MEMORY_S = 3600.0
#: Seconds between two looks for batches that are missing among the live ones.
RELIST_INTERVAL_S = 5.0
#: Seconds between two collections of a batch if each one must rewrite the whole manifest.
COLLECT_INTERVAL_S = 3.0

#: States of a batch that has not ended, as ``BatchRecords.change_state`` takes them.
_NOT_ENDED = "queued running paused"


class BatchRunner:
    """Moves the live batches forward, one step at a time."""

    def __init__(self, client: Broker, settings: Settings, app: Celery) -> None:
        self._client = client
        self._task_records = TaskRecords(client, settings)
        messages = MessageFactory(app)
        self._live_batches = LiveBatches(client)
        self._items = BatchItems(client)
        self._batches = BatchRecords(client, settings)
        self._registry = WorkerRegistry(client)
        self._catalogs = Catalogs(self._registry)
        self._throughput = ThroughputStats(client)
        # Not thread_local: another thread stops the runner and releases the lock.
        self._lock = client.lock(BATCH_RUNNER_LOCK, timeout=LOCK_TIMEOUT_S, blocking=False, thread_local=False)

        self._writer = PromptWriter(self._task_records, messages, settings)
        self._preparer = Preparer(settings, self._live_batches, self._items, self._writer)
        self._submitter = BatchSubmitter(settings, self._task_records, messages, self._live_batches, self._items)
        artifacts = open_artifacts(settings, client)
        self._collector = Collector(
            client, self._task_records, artifacts, self._live_batches, self._items, self._hold_lock
        )
        self._finisher = BatchFinisher(client, settings, app, self._task_records, self._live_batches, self._items)

        self._outputs = Outputs(settings)
        #: Outputs that are open, by the ids of their batches. They cache the manifest.
        self._open_outputs: dict[str, Output] = {}
        #: When a batch may be collected again, and when a batch may write again whose output was unavailable.
        self._collect_at: dict[str, float] = {}
        self._retry_at: dict[str, float] = {}
        #: How many unexpected errors a batch has raised, and when it may be tried again after the last one.
        self._defects: dict[str, int] = {}
        self._defect_retry_at: dict[str, float] = {}
        #: When the next look for batches is due that are missing among the live ones.
        self._relist_at = 0.0
        #: How many items of each batch have an unfinished task.
        self._in_flight: dict[str, int] = {}
        #: The name of each worker's engine.
        self._engines: dict[str, str] = {}

    def stop(self) -> None:
        """Release the lock, so that another control worker can run the batches at once."""
        try:
            with broker_errors():
                self._lock.release()
        except LockError:
            # Another process runs the batches.
            pass
        except BrokerUnavailable:
            logger.warning("broker unavailable: the lock of the batch runner was not released")

    def step(self) -> None:
        """Move every live batch forward, then refill the queue. Raises BrokerUnavailable."""
        if not self._hold_lock():
            # Another process writes the manifests now, so those that were read here are out of date.
            self._open_outputs.clear()
            return
        if time.monotonic() >= self._relist_at:
            self._live_batches.relist()
            self._relist_at = time.monotonic() + RELIST_INTERVAL_S
        batches = self._live_batches.load_all()
        self._forget_all_but({batch.id for batch in batches})
        if not batches:
            return

        workers = self._registry.workers()
        self._engines = {worker.name: worker.engine for worker in workers}
        self._writer.workers = workers
        batch_workers = select_serving(workers, SD_BATCH)
        self._submitter.catalogs = self._catalogs.load(batch_workers)
        eligible = [batch for batch in batches if self._advance_guarded(batch)]
        self._throughput.set_engine_count(len(batch_workers))
        self._refill_queue(eligible, batches, len(batch_workers))

    def _hold_lock(self) -> bool:
        """Take the lock or keep it; return False if another process has it. Raises BrokerUnavailable."""
        with broker_errors():
            try:
                return bool(self._lock.reacquire())
            except LockError:
                # This process has no lock, or has lost it.
                return bool(self._lock.acquire())

    def _forget_all_but(self, live_ids: set[str]) -> None:
        """Drop what is stored about batches that are not live any more."""
        caches: tuple[dict[str, Any], ...] = (
            self._open_outputs,
            self._collect_at,
            self._retry_at,
            self._in_flight,
            self._defects,
            self._defect_retry_at,
        )
        for cache in caches:
            for batch_id in cache.keys() - live_ids:
                del cache[batch_id]

    def _advance_guarded(self, batch: LiveBatch) -> bool:
        """Advance a batch; pause or end it if that fails. Return whether the batch may start items now."""
        if self._has_defect(batch):
            return False
        with self._guarded(batch):
            try:
                return self._advance(batch)
            except OutputUnavailable as error:
                self._pause(batch, error.reason)
            except BatchNotPreparable as error:
                self._end(batch, "failed", str(error))
        return False

    def _guarded(self, batch: LiveBatch) -> AbstractContextManager[None]:
        """Run a block that works on one batch. Whatever it raises, the other batches are worked on."""
        return guarded(
            "batch runner",
            let_through=(BrokerUnavailable,),
            set_aside=lambda reason: self._handle_defect(batch, reason),
        )

    def _handle_defect(self, batch: LiveBatch, reason: str) -> None:
        """Pause a batch that raised an unexpected error; after MAX_DEFECTS of them, end it.

        ``reason``: the type of the error. Its text is left out: it may hold a prompt.
        """
        now = time.monotonic()
        if now > self._defect_retry_at.get(batch.id, 0.0) + DEFECT_MEMORY_S:
            self._defects.pop(batch.id, None)
        count = self._defects.get(batch.id, 0) + 1
        self._defects[batch.id] = count
        self._defect_retry_at[batch.id] = now + DEFECT_RETRY_INTERVAL_S * 2 ** (count - 1)
        self._open_outputs.pop(batch.id, None)
        # It must not take the places of other batches in the queue meanwhile.
        self._in_flight.pop(batch.id, None)
        logger.error("batch failed unexpectedly", extra={"batch_id": batch.id, "error": reason, "count": count})

        if count >= MAX_DEFECTS:
            del self._defects[batch.id]
            if batch.state in ENDED:
                self._give_up(batch, reason)
            else:
                text = f"graycat cannot work on it: {reason}, {count} times; the log of the control worker has more"
                self._end(batch, "failed", text)
        elif batch.state in ("queued", "running"):
            self._pause(batch, f"graycat cannot work on it: {reason}; it is tried again")

    def _give_up(self, batch: LiveBatch, reason: str) -> None:
        """Remove an ended batch from the live batches, although something is left to do for it."""
        try:
            self._finisher.close(batch)
        except BrokerUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 (its parts in the broker may be anything)
            note("batch runner", error)
            self._live_batches.abandon(batch.id.encode(), reason)

    def _has_defect(self, batch: LiveBatch) -> bool:
        """Return whether a batch raised an unexpected error, and must not be tried again yet."""
        return time.monotonic() < self._defect_retry_at.get(batch.id, 0.0)

    def _advance(self, batch: LiveBatch) -> bool:
        """Do what a batch's state asks for; return whether the batch may start items now."""
        if batch.state not in ENDED and self._finisher.is_past_deadline(batch, now_ms(self._client)):
            self._end(batch, "failed", "its deadline has passed")
            return False
        if batch.state == "paused" and batch.paused_by == "output":
            self._retry_output(batch)
            return False
        if batch.state in ENDED and not self._may_retry(batch):
            return False

        if batch.state == "paused" or batch.state in ENDED:
            self._submitter.withdraw(batch)
        in_flight = self._collect(batch)
        self._in_flight[batch.id] = in_flight
        if batch.state in ENDED:
            self._finisher.step(batch, in_flight, partial(self._output, batch))
            return False
        if batch.state == "queued":
            self._prepare(batch)
            return False
        return batch.state == "running" and self._check_running(batch)

    def _prepare(self, batch: LiveBatch) -> None:
        """Do the next step of a batch's preparation; start the batch if it was the last one."""
        if not self._preparer.step(batch, self._open_output):
            return
        fields = {"reason": ""}
        if not batch.started_ms:
            fields["started_ms"] = "NOW"
        self._batches.change_state(batch.id, "queued", "running", fields)

    def _check_running(self, batch: LiveBatch) -> bool:
        """Return whether a running batch may start items now. End it if all of its items have ended."""
        counts = self._items.count_by_state(batch.id)
        end_state, reason = self._finisher.decide_end(batch, counts)
        if end_state:
            self._end(batch, end_state, reason)
            return False

        window = batch.options.parse_window()
        if window is not None and not window.is_open(now_ms(self._client) / 1000):
            self._submitter.withdraw(batch)
            reason = f"outside of its window, {window}"
        if reason != batch.reason:
            self._live_batches.update_fields(batch.id, {"reason": reason})
        return not reason and counts[WAITING] > 0

    def _collect(self, batch: LiveBatch) -> int:
        """Collect a batch's images; return how many of its items have an unfinished task."""
        if not batch.folder:
            return 0
        return self._collector.collect(
            batch, partial(self._output, batch), self._engine_name, may_collect=partial(self._may_collect, batch)
        )

    def _engine_name(self, worker: str) -> str:
        return self._engines.get(worker, "")

    def _may_collect(self, batch: LiveBatch) -> bool:
        """Return whether to collect now. If a file cannot be appended to, each collection rewrites the manifest."""
        if not self._hold_lock():
            return False
        now = time.monotonic()
        if not self._output(batch).can_append and now < self._collect_at.get(batch.id, 0.0):
            return False
        self._collect_at[batch.id] = now + COLLECT_INTERVAL_S
        return True

    def _output(self, batch: LiveBatch) -> Output:
        return self._open_output(batch, batch.folder)

    def _open_output(self, batch: LiveBatch, folder: str) -> Output:
        if batch.id not in self._open_outputs:
            self._open_outputs[batch.id] = self._outputs.open(batch.options.store, folder)
        return self._open_outputs[batch.id]

    def _pause(self, batch: LiveBatch, reason: str) -> None:
        """Pause a batch that cannot continue. Nothing that it has made is lost."""
        self._open_outputs.pop(batch.id, None)
        self._retry_at[batch.id] = time.monotonic() + OUTPUT_RETRY_INTERVAL_S
        if batch.state in ENDED:
            # It keeps its state; only its last files are not written yet.
            self._live_batches.update_fields(batch.id, {"reason": reason})
            return
        logger.warning("batch paused", extra={"batch_id": batch.id, "reason": reason})
        self._batches.change_state(batch.id, _NOT_ENDED, "paused", {"reason": reason, "paused_by": "output"})

    def _may_retry(self, batch: LiveBatch) -> bool:
        """Return whether OUTPUT_RETRY_INTERVAL_S have passed since a batch could not write."""
        return time.monotonic() >= self._retry_at.get(batch.id, 0.0)

    def _retry_output(self, batch: LiveBatch) -> None:
        """Resume a batch whose output was unavailable, if it can write again. Raises OutputUnavailable if not."""
        self._submitter.withdraw(batch)
        if not self._may_retry(batch):
            return
        self._retry_at[batch.id] = time.monotonic() + OUTPUT_RETRY_INTERVAL_S
        if batch.folder:
            output = self._output(batch)
            output.check_space()
            self._collector.collect(batch, lambda: output, self._engine_name, may_collect=self._hold_lock)
        logger.info("batch goes on", extra={"batch_id": batch.id})
        self._batches.change_state(batch.id, "paused", "queued", {"reason": "", "paused_by": ""})

    def _end(self, batch: LiveBatch, state: str, reason: str) -> None:
        self._batches.change_state(batch.id, _NOT_ENDED, state, {"reason": reason, "finished_ms": "NOW"})

    def _refill_queue(self, eligible: list[LiveBatch], batches: list[LiveBatch], engines: int) -> None:
        """Submit items until enough are in flight: one of each eligible batch in turn."""
        in_flight = {batch.id: self._in_flight.get(batch.id, 0) for batch in batches}
        free = self._max_in_flight(engines) - sum(in_flight.values())
        while eligible and free > 0:
            still_eligible = []
            for batch in eligible:
                if free > 0:
                    if not self._below_gpu_limit(batch, in_flight) or not self._submit_next(batch):
                        continue
                    in_flight[batch.id] += 1
                    free -= 1
                still_eligible.append(batch)
            eligible = still_eligible

    @staticmethod
    def _below_gpu_limit(batch: LiveBatch, in_flight: Mapping[str, int]) -> bool:
        """Return whether a batch may have one more item in flight: it may have one on each of its GPUs."""
        max_gpus = batch.options.max_gpus
        return max_gpus is None or in_flight[batch.id] < max_gpus

    def _submit_next(self, batch: LiveBatch) -> bool:
        """Submit a batch's next item; return False if it has none, or none can be submitted now."""
        with self._guarded(batch):
            try:
                return self._hold_lock() and self._submitter.submit_next(batch)
            except OutputUnavailable as error:
                self._pause(batch, error.reason)
        return False

    def _max_in_flight(self, engines: int) -> int:
        """Return how many items of all batches may be in flight together."""
        per_engine = MIN_ITEMS_PER_ENGINE
        mean_ms = self._task_records.mean_duration_ms("sd.txt2img")
        if mean_ms:
            ahead = math.ceil(WORK_AHEAD_S * 1000 / mean_ms)
            per_engine = min(max(MIN_ITEMS_PER_ENGINE, ahead + 1), MAX_ITEMS_PER_ENGINE)
        return engines * per_engine
