"""The task that beat sends: it submits the batches of the schedules that are due."""

from __future__ import annotations

import logging

from celery import shared_task

from graycat.errors import BrokerUnavailable
from graycat.metrics import worker
from graycat.queue.kinds import FIRE_SCHEDULES
from graycat.tasks.base import RecordTask
from graycat.worker import runtime

logger = logging.getLogger(__name__)


# Without events: nobody asked for this task, and a tick every few seconds would fill the lists of Celery's tools.
@shared_task(name=FIRE_SCHEDULES.name, base=RecordTask, send_events=False)
def fire_schedules() -> None:
    """Submit what is due. If the broker is away, the next tick does it."""
    try:
        outcomes = runtime.schedule_runner().step()
    except BrokerUnavailable:
        logger.warning("broker unavailable")
        return
    for outcome, count in outcomes.items():
        worker.FIRES.labels(outcome).inc(count)
