"""The task that beat sends: what is due by the schedules becomes batches."""

from __future__ import annotations

import logging

from celery import shared_task

from graycat.errors import BrokerUnavailable
from graycat.metrics import worker
from graycat.queue.kinds import FIRE_SCHEDULES
from graycat.worker import runtime

logger = logging.getLogger(__name__)


@shared_task(name=FIRE_SCHEDULES.name)
def fire_schedules() -> None:
    """Fire what is due; what a broker that is away keeps from it, the next tick does."""
    try:
        outcomes = runtime.schedule_runner().step()
    except BrokerUnavailable:
        logger.warning("broker unavailable")
        return
    for outcome, count in outcomes.items():
        worker.FIRES.labels(outcome).inc(count)
