"""The end of a batch: when it is over, and what is left to do then."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from celery import Celery

from graycat.batches.gallery.export import Exporter
from graycat.batches.items import PORTION, BatchItems
from graycat.batches.live import LiveBatch, LiveBatches
from graycat.batches.output import ManifestEntry, Output
from graycat.batches.states import CANCELLED, DONE, FAILED, QUEUED, RUNNING, WAITING, part_keys
from graycat.broker.client import broker_errors
from graycat.broker.keys import LIVE_BATCHES, batch_key
from graycat.broker.protocol import Broker
from graycat.broker.scripts import load
from graycat.queue.control import broadcast_stop
from graycat.queue.models import Verdict
from graycat.queue.records import TaskRecords
from graycat.settings import Settings

_LUA = Path(__file__).parents[1] / "lua"

logger = logging.getLogger(__name__)


class BatchFinisher:
    """Ends batches."""

    def __init__(
        self,
        client: Broker,
        settings: Settings,
        app: Celery,
        records: TaskRecords,
        heads: LiveBatches,
        items: BatchItems,
    ) -> None:
        self._client = client
        self._ttl_ms = int(settings.batch_ttl_s * 1000)
        self._app = app
        self._records = records
        self._heads = heads
        self._items = items
        self._pages = Exporter(client, settings)
        self._script = client.register_script(load(_LUA / "end.lua"))

    @staticmethod
    def is_late(head: LiveBatch, now_ms: int) -> bool:
        """Tell whether a batch's deadline has passed."""
        return head.deadline_ms is not None and now_ms >= head.deadline_ms

    @staticmethod
    def verdict(head: LiveBatch, counts: Mapping[str, int]) -> tuple[str, str]:
        """Return the state in which a running batch has ended, and why; '' where it goes on."""
        failed, most = counts[FAILED], head.terms.max_failures
        if most is not None and failed > most:
            return "failed", f"{failed} items failed, and {most} may"
        if not counts[WAITING] + counts[QUEUED] + counts[RUNNING]:
            if failed > (most or 0):
                return "failed", f"{failed} items failed"
            return "succeeded", ""
        return "", ""

    def step(self, head: LiveBatch, in_hand: int, output: Callable[[], Output]) -> None:
        """Take a batch that has ended a step further, until nobody need look at it. May be done again after a kill."""
        if in_hand:
            self._stop_renders(head)
            return
        if self._items.numbers(head.id, QUEUED, RUNNING, most=1):
            return
        if self._items.move_all(head.id, (WAITING,), CANCELLED):
            return
        if head.folder and head.planned and not self._pages.step(head.id, output):
            return
        if head.folder and head.planned and (lines := self._lines(head)):
            output().rewrite(lines)
        if head.folder:
            self._heads.leave_folder(head)
        self._let_go(head)

    def _stop_renders(self, head: LiveBatch) -> None:
        known = self._items.known(head.id, self._items.numbers(head.id, RUNNING)).values()
        for task_id in (item.task_id for item in known):
            state, worker = self._records.cancel(task_id)
            if state == "running":
                broadcast_stop(self._app, task_id, worker, Verdict.CANCEL)

    def _lines(self, head: LiveBatch) -> list[ManifestEntry]:
        found: list[ManifestEntry] = []
        for start in range(1, head.total + 1, PORTION):
            numbers = range(start, min(start + PORTION, head.total + 1))
            known = self._items.known(head.id, numbers).values()
            found += [item.line for item in known if item.state == DONE and item.line is not None]
        return found

    def _let_go(self, head: LiveBatch) -> None:
        names = [batch_key(head.id), LIVE_BATCHES, *part_keys(head.id)]
        counts = self._items.counts(head.id)
        fields: dict[str, str | int] = {
            "owner": head.owner,
            "kind": "batch",
            "submitted_ms": head.submitted_ms,
            "started_ms": head.started_ms or "",
            "finished_ms": head.finished_ms or "",
            "task_state": head.state,
            "progress": json.dumps(counts),
            "name": head.name,
        }
        pairs = [item for pair in fields.items() for item in pair]
        with broker_errors():
            ended = self._script(keys=names, args=(head.id, self._ttl_ms, head.state, *pairs))
        if ended:
            extra = {"batch_id": head.id, "owner": head.owner, "state": head.state, "done": counts[DONE]}
            logger.info("batch ended", extra=extra | {"failed": counts[FAILED]})
