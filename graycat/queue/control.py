"""Celery remote-control commands about one task, sent to the worker that runs it."""

from __future__ import annotations

import logging
from typing import Any

import kombu
import kombu.exceptions
import redis
from celery import Celery

from graycat.errors import BrokerUnavailable

logger = logging.getLogger(__name__)

#: Transport options for one try. Sending takes several replies of the broker, and an HTTP request waits for it.
ONCE: dict[str, Any] = {
    "max_retries": 0,
    "retry_on_timeout": False,
    "socket_timeout": 0.5,
    "socket_connect_timeout": 0.5,
}

#: What sending a command raises while the broker cannot be used.
SEND_ERRORS = (kombu.exceptions.OperationalError, redis.RedisError, OSError)


class OneTryConnection(kombu.Connection):
    """A connection of which nothing is tried again: kombu's remote control would try for ever (kombu 5.7)."""

    def ensure(self, obj: Any, fun: Any, *_: Any, **__: Any) -> Any:
        """Return the function itself, in place of one that retries."""
        return fun


def ask_worker(app: Celery, command: str, arguments: dict[str, Any], worker: str, timeout_s: float) -> Any:
    """Send a remote-control command to a worker and return its reply; None if it sends none in time.

    Raises BrokerUnavailable. The application sends nothing else after that, so it belongs to a command that ends.
    """
    app.amqp.Connection = OneTryConnection
    app.conf.broker_transport_options = app.conf.broker_transport_options | ONCE
    try:
        replies = app.control.broadcast(command, arguments, destination=[worker], reply=True, timeout=timeout_s)
    except SEND_ERRORS as error:
        raise BrokerUnavailable from error
    for reply in replies or ():
        # Every worker hears every command, and may answer any.
        if isinstance(reply, dict) and isinstance(reply.get(worker), dict):
            return reply[worker]
    return None


def broadcast_stop(app: Celery, task_id: str, worker: str, how: str) -> None:
    """Send ``stop_task`` to the worker that runs a task. Never raises.

    ``how`` is a Verdict, or ``kinds.SKIP``. A command that cannot be sent is only logged: the worker also finds the
    verdict in the task's record when it next publishes or renews its lease (SKIP is in no record, so it is lost then).
    """
    arguments = {"task_id": task_id, "how": str(how)}
    try:
        _publish_once(app, "stop_task", arguments, worker)
    except SEND_ERRORS:
        # Among others NoPermissionError: this process may have a broker user of its own, and the broker's access
        # control list does not let it publish to workers on other machines.
        logger.warning("cancel not delivered", extra={"task_id": task_id})


def _publish_once(app: Celery, command: str, arguments: dict[str, Any], worker: str) -> None:
    """Send a remote-control command, as ``app.control.broadcast`` does. That one tries for ever (kombu 5.7).

    Raises what kombu and redis-py raise.
    """
    with app.connection_for_write() as connection:
        connection.transport_options = (connection.transport_options or {}) | ONCE
        # celery-types does not know it.
        mailbox: Any = app.control.mailbox(connection)  # type: ignore[attr-defined]
        message = {"method": command, "arguments": arguments, "destination": [worker], "pattern": None, "matcher": None}
        connection.Producer(auto_declare=False).publish(
            message,
            exchange=mailbox.exchange.name,
            declare=[mailbox.exchange],
            headers={"clock": mailbox.clock.forward(), "expires": 0},
            serializer=mailbox.serializer,
        )
