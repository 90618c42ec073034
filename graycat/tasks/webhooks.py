"""The task that sends one webhook."""

from __future__ import annotations

import logging

from celery import shared_task

from graycat.errors import BrokerUnavailable
from graycat.queue.kinds import DELIVER
from graycat.tasks.base import RecordTask
from graycat.worker import runtime

logger = logging.getLogger(__name__)


@shared_task(name=DELIVER.name, base=RecordTask)
def deliver(member: str) -> None:
    """Attempt the delivery of ``TASK_ID EVENT`` once."""
    task_id, _, event = member.partition(" ")
    try:
        runtime.webhook_sender().deliver(task_id, event)
    except BrokerUnavailable:
        # The delivery is due again when the hold of this attempt has run out.
        logger.warning("broker unavailable", extra={"task_id": task_id, "event": event})
