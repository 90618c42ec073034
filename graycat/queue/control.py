"""Celery remote-control commands about one task, sent to the worker that runs it."""

from __future__ import annotations

import logging

import kombu.exceptions
import redis
from celery import Celery

logger = logging.getLogger(__name__)


def broadcast_stop(app: Celery, task_id: str, worker: str, how: str) -> None:
    """Send ``stop_task`` to the worker that runs a task. Never raises.

    ``how`` is a Verdict, or ``kinds.SKIP``. A command that cannot be sent is only logged: the worker also finds the
    verdict in the task's record when it next publishes or renews its lease (SKIP is in no record, so it is lost then).
    """
    arguments = {"task_id": task_id, "how": str(how)}
    try:
        app.control.broadcast("stop_task", arguments=arguments, destination=[worker])
    except (kombu.exceptions.OperationalError, redis.ResponseError):
        # OperationalError: the broker is away. ResponseError: this process has a broker user of its own, and the
        # broker's access control list does not let it publish to workers on other machines.
        logger.warning("cancel not delivered", extra={"task_id": task_id})
