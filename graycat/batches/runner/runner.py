"""The feeder: a duty of the control worker that puts a few items of each running batch on ``sd.batch``, and no more.

So whatever decides when an item may start (pause, time window, cap of GPUs, turns, deadline) is decided here, just
before; a queue holds two items an engine, and what is taken back is little. Any number of control workers may run: a
lock lets one feed, and every step may be done again, so a kill leaves no trace.
"""

from __future__ import annotations

import logging
import math
import time
import traceback
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
from graycat.batches.runner.preparer import Preparer, Unusable
from graycat.batches.runner.prompt_writer import PromptWriter
from graycat.batches.runner.submitter import BatchSubmitter
from graycat.batches.states import ENDED, WAITING
from graycat.batches.throughput import ThroughputStats
from graycat.broker.client import broker_errors, now_ms
from graycat.broker.keys import BATCH_RUNNER_LOCK
from graycat.broker.protocol import Broker
from graycat.errors import BrokerUnavailable
from graycat.fleet.catalogs import Catalogs
from graycat.fleet.workers import WorkerRegistry, serving
from graycat.queue.messages import MessageFactory
from graycat.queue.records import TaskRecords
from graycat.queue.topology import SD_BATCH
from graycat.settings import Settings
from graycat.storage import open_artifacts

logger = logging.getLogger(__name__)

#: Seconds between two steps: what an engine waits at most for the item behind the next.
FEED_EVERY_S = 0.2
#: Seconds after which another control worker feeds where the one that did has died.
LOCK_S = 5.0
#: Items an engine that are in the queue or rendered: one under way, one behind it. More where they are quick, so that
#: there is work for this many seconds; never more than so many.
PER_ENGINE, AHEAD_S, MOST_PER_ENGINE = 2, 1.0, 16
#: Seconds between two tries to write where there was no room, and between two rounds where each rewrites the manifest.
AGAIN_S, ROUND_S = 5.0, 3.0


class BatchRunner:
    """Feeds and collects, a step at a time."""

    def __init__(self, client: Broker, settings: Settings, app: Celery) -> None:
        self._settings = settings
        self._client = client
        records, messages = TaskRecords(client, settings), MessageFactory(app)
        self._heads, self._items = LiveBatches(client), BatchItems(client)
        self._batches = BatchRecords(client, settings)
        self._fleet, self._speeds = WorkerRegistry(client), ThroughputStats(client)
        self._means = records
        # Not thread_local: who stops the runner is another thread.
        self._lock = client.lock(BATCH_RUNNER_LOCK, timeout=LOCK_S, blocking=False, thread_local=False)
        self._prepare = Preparer(settings, self._heads, self._items, PromptWriter(records, messages))
        artifacts = open_artifacts(settings, client)
        self._collector = Collector(client, records, artifacts, self._heads, self._items, self._hold_lock)
        self._placer = BatchSubmitter(settings, records, messages, self._heads, self._items)
        self._catalogs = Catalogs(self._fleet)
        self._ending = BatchFinisher(client, settings, app, records, self._heads, self._items)
        self._stores = Outputs(settings)
        self._outputs: dict[str, Output] = {}
        #: When a batch is collected again, and when one that could not write tries again.
        self._next_round: dict[str, float] = {}
        self._put_off: dict[str, float] = {}
        self._engines: dict[str, str] = {}
        #: How many items of each batch have a task that has not ended.
        self._busy: dict[str, int] = {}

    def stop(self) -> None:
        """Have another control worker feed at once."""
        try:
            with broker_errors():
                self._lock.release()
        except LockError:
            # Another process runs the batches.
            pass
        except BrokerUnavailable:
            logger.warning("broker gone before the feeder could let go of its lock")

    def _hold_lock(self) -> bool:
        """Take the lock or keep it; False if another process has it. Raises BrokerUnavailable."""
        with broker_errors():
            try:
                return bool(self._lock.reacquire())
            except LockError:
                # Not ours yet, or not any more.
                return bool(self._lock.acquire())

    def step(self) -> None:
        """Look at every live batch, and feed. Raises BrokerUnavailable."""
        if not self._hold_lock():
            # Whoever holds it writes the manifests now: what was read of them is old.
            self._outputs.clear()
            return
        heads = self._heads.all()
        self._forget({head.id for head in heads})
        if not heads:
            return
        workers = self._fleet.workers()
        self._engines = {worker.name: worker.engine for worker in workers}
        takers = serving(workers, SD_BATCH)
        engines = len(takers)
        self._placer.catalogs = self._catalogs.of(takers)
        hungry = [head for head in heads if self._looked_at(head)]
        self._speeds.note_engines(engines)
        self._feed(hungry, heads, engines)

    def _forget(self, live: set[str]) -> None:
        """Forget the batches that are not live any more."""
        kept: tuple[dict[str, Any], ...] = (self._outputs, self._next_round, self._put_off, self._busy)
        for known in kept:
            for gone in known.keys() - live:
                del known[gone]

    def _looked_at(self, head: LiveBatch) -> bool:
        """Do for a batch what its state asks for; tell whether it may start items now."""
        try:
            return self._look(head)
        except OutputUnavailable as error:
            self._pause(head, error.reason)
        except Unusable as error:
            self._end(head, "failed", str(error))
        except BrokerUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 (one batch must not keep all others from running)
            # The error's own words may hold a prompt.
            where = traceback.extract_tb(error.__traceback__)[-1]
            extra = {"batch_id": head.id, "error": type(error).__name__, "at": f"{where.filename}:{where.lineno}"}
            logger.error("batch paused by a defect", extra=extra)  # noqa: TRY400
            self._pause(head, f"a defect of graycat: {type(error).__name__}")
        return False

    def _look(self, head: LiveBatch) -> bool:
        if head.state not in ENDED and self._ending.is_late(head, now_ms(self._client)):
            self._end(head, "failed", "its deadline has passed")
            return False
        if head.state == "paused" and head.paused_by == "output":
            return self._tried_again(head)
        if head.state in ENDED and time.monotonic() < self._put_off.get(head.id, 0.0):
            return False
        if head.state in (*ENDED, "paused"):
            self._placer.withdraw(head)
        in_hand = self._busy[head.id] = self._collect(head)
        if head.state in ENDED:
            self._ending.step(head, in_hand, partial(self._output, head))
            return False
        if head.state == "queued":
            if self._prepare.step(head, self._open):
                fields = {"reason": ""} | ({} if head.started_ms else {"started_ms": "NOW"})
                self._batches.change_state(head.id, "queued", "running", fields)
            return False
        return head.state == "running" and self._runs(head)

    def _runs(self, head: LiveBatch) -> bool:
        """Tell whether a running batch may start items now; end it where it is over."""
        counts = self._items.counts(head.id)
        over, reason = self._ending.verdict(head, counts)
        if over:
            self._end(head, over, reason)
            return False
        hours = head.terms.hours
        if hours is not None and not hours.is_open(now_ms(self._client) / 1000):
            self._placer.withdraw(head)
            reason = f"outside of its window, {hours}"
        if reason != head.reason:
            self._heads.note(head.id, {"reason": reason})
        return not reason and counts[WAITING] > 0

    def _collect(self, head: LiveBatch) -> int:
        if not head.folder:
            return 0
        return self._collector.collect(
            head, partial(self._output, head), self._engine_of, take=partial(self._due, head)
        )

    def _engine_of(self, worker: str) -> str:
        return self._engines.get(worker, "")

    def _due(self, head: LiveBatch) -> bool:
        """Tell whether to collect now: each round costs a whole manifest where a file cannot grow."""
        if not self._hold_lock():
            return False
        now = time.monotonic()
        if not self._output(head).appends and now < self._next_round.get(head.id, 0.0):
            return False
        self._next_round[head.id] = now + ROUND_S
        return True

    def _output(self, head: LiveBatch) -> Output:
        return self._open(head, head.folder)

    def _open(self, head: LiveBatch, folder: str) -> Output:
        if head.id not in self._outputs:
            self._outputs[head.id] = self._stores.of(head.terms.store, folder)
        return self._outputs[head.id]

    def _pause(self, head: LiveBatch, reason: str) -> None:
        """Pause a batch that cannot go on; of what it has made nothing is lost."""
        self._outputs.pop(head.id, None)
        if head.state in ENDED:
            # It has ended but for what cannot be written now.
            self._put_off[head.id] = time.monotonic() + AGAIN_S
            self._heads.note(head.id, {"reason": reason})
            return
        logger.warning("batch paused", extra={"batch_id": head.id, "reason": reason})
        self._put_off[head.id] = time.monotonic() + AGAIN_S
        self._batches.change_state(
            head.id, "queued running paused", "paused", {"reason": reason, "paused_by": "output"}
        )

    def _tried_again(self, head: LiveBatch) -> bool:
        """See whether a batch that could not write can do so again, and let it go on."""
        self._placer.withdraw(head)
        if time.monotonic() < self._put_off.get(head.id, 0.0):
            return False
        self._put_off[head.id] = time.monotonic() + AGAIN_S
        output = self._output(head) if head.folder else None
        if output is not None:
            output.probe()
            self._collector.collect(head, lambda: output, self._engine_of, take=self._hold_lock)
        logger.info("batch goes on", extra={"batch_id": head.id})
        self._batches.change_state(head.id, "paused", "queued", {"reason": "", "paused_by": ""})
        return False

    def _end(self, head: LiveBatch, state: str, reason: str) -> None:
        self._batches.change_state(head.id, "queued running paused", state, {"reason": reason, "finished_ms": "NOW"})

    def _feed(self, hungry: list[LiveBatch], heads: list[LiveBatch], engines: int) -> None:
        """Fill the window, an item of each batch in turn."""
        in_hand = {head.id: self._busy.get(head.id, 0) for head in heads}
        room = self._window(engines) - sum(in_hand.values())
        while hungry and room > 0:
            for head in list(hungry):
                most = head.terms.max_gpus
                if most is not None and in_hand[head.id] >= most:
                    hungry.remove(head)
                elif room > 0:
                    if not self._placed(head):
                        hungry.remove(head)
                        continue
                    in_hand[head.id] += 1
                    room -= 1

    def _placed(self, head: LiveBatch) -> bool:
        try:
            return self._hold_lock() and self._placer.place_next(head)
        except OutputUnavailable as error:
            self._pause(head, error.reason)
            return False

    def _window(self, engines: int) -> int:
        """Return how many items may be in hand together."""
        mean_ms = self._means.mean_ms("sd.txt2img")
        ahead = math.ceil(AHEAD_S * 1000 / mean_ms) if mean_ms else 0
        return engines * min(max(PER_ENGINE, ahead + 1), MOST_PER_ENGINE)
