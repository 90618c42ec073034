"""What Celery's ``revoke`` and ``terminate`` do: they end tasks by their records, like any cancel.

Each worker gets the command, unless it has a destination. The first one ends the task; the others find that it has
ended. A worker with an engine ends tasks of its family only: it may not access others.
"""

from __future__ import annotations

import logging

from graycat.engines.client import StopReason
from graycat.errors import BrokerUnavailable
from graycat.metrics import worker
from graycat.queue.ids import TASK_ID
from graycat.worker.runtime import WorkerProcess, process

logger = logging.getLogger(__name__)

#: The reply to any other name. An id that a client chose may be several owners'; Celery knows the task by another one.
NO_ID = "no id of a task: those are 32 hexadecimal digits, as in Flower and the logs"


def revoke(task_ids: list[str], *, terminate: bool) -> dict[str, str]:
    """Cancel tasks that are queued, and with ``terminate`` those that run; reply how each of them is now."""
    outcomes = []
    try:
        for task_id in task_ids:
            outcome = NO_ID
            if " " in task_id or TASK_ID.fullmatch(task_id):
                outcome = _revoke(process, task_id, terminate=terminate)
            logger.warning("task revoked", extra={"task_id": task_id, "terminate": terminate, "outcome": outcome})
            outcomes.append(f"{task_id}: {outcome}")
    except BrokerUnavailable:
        return {"error": "the broker does not answer"}
    return {"ok": "; ".join(outcomes)}


def _revoke(holder: WorkerProcess, task_id: str, *, terminate: bool) -> str:
    """Revoke one task, or one delivery (``TASK_ID EVENT``); return its state now. Raises BrokerUnavailable."""
    parent, _, event = task_id.partition(" ")
    if event and holder.webhook_sender is not None:
        return "failed" if holder.webhook_sender.give_up(parent, event) else "no delivery that waits"
    records = holder.records
    if records is None or event or not holder.may_access(task_id):
        return "no task of this worker"

    if records.cancel_queued(task_id):
        (kind,) = records.fields(task_id, "kind")
        worker.count_refusal(kind, "cancelled")
        return "cancelled"
    if terminate:
        state, _ = records.cancel(task_id)
    else:
        (state,) = records.fields(task_id, "state")
    if state != "running":
        return state or "unknown"
    if not terminate:
        return "running, goes on"
    if holder.engine is not None:
        holder.engine.running.stop(task_id, StopReason.CANCELLED)
    return "running, asked to stop"
