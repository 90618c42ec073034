"""What becomes of a task whose kind this worker does not know: its web server is of a newer release.

Celery drops the message. The sweeper enqueues it again, so that a worker of the newer release may take it. Without one
the task fails after a few such rounds: it would keep its caller, and its owner's other tasks, waiting to its end.
"""

from __future__ import annotations

import logging
from typing import Any

from graycat.errors import BrokerUnavailable
from graycat.loops.unexpected import guarded
from graycat.queue.ids import TASK_ID
from graycat.worker.runtime import process

logger = logging.getLogger(__name__)


def refuse(name: str, id: str, **_: Any) -> None:
    """Note that this worker does not know a task's kind (a receiver of Celery's ``task_unknown``)."""
    with guarded("unknown kinds"):
        if process.records is None or not TASK_ID.fullmatch(str(id)) or not process.may_access(id):
            return
        try:
            failed = process.records.refuse(id, name)
        except BrokerUnavailable:
            # It is counted when the message comes again.
            return
        logger.warning("message dropped: unknown kind of task", extra={"task_id": id, "kind": name, "failed": failed})
