"""The Celery messages of tasks."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterable
from typing import Any
from uuid import uuid4

from celery import Celery
from kombu import Connection

from graycat.queue.kinds import KINDS, Kind

#: What stands in the template for a task's id, and for the name of its kind.
_ID = "00000000-task-id-goes-here"
_KIND = "00000000.kind-goes-here"
#: kombu's in-memory transport has the same queues in all threads of a process.
_TEMPLATE_LOCK = threading.Lock()


class MessageFactory:
    """Makes the Celery messages of tasks, without a broker round trip and without Celery's cost a call.

    Celery itself publishes one message into kombu's in-memory transport; that message is the template. So the format is
    that of the installed Celery, and making a message takes a few string operations. The script that writes the record
    also puts the message on its queue: a task is accepted completely or not at all.
    """

    def __init__(self, app: Celery, kinds: Iterable[Kind] = KINDS.values()) -> None:
        self._queues = {kind.name: kind.queue for kind in kinds}
        # Messages of different kinds differ in the kind and the queue only.
        self._envelope, self._body = _make_template(app, next(iter(self._queues.values())))

    def make(self, kind: str, task_id: str, queue: str = "") -> bytes:
        """Return the message of a task in ``queue``; by default the queue of its kind, if that is a kind known here."""
        payload = base64.b64encode(self._body.replace(_ID, task_id).encode()).decode()
        text = self._envelope.replace(_ID, task_id).replace("@BODY@", payload).replace("@TAG@", str(uuid4()))
        text = text.replace('"@QUEUE@"', json.dumps(queue or self._queues[kind]))
        return text.replace(f'"{_KIND}"', json.dumps(kind)).encode()


def _make_template(app: Celery, queue: str) -> tuple[str, str]:
    """Return envelope and body of the message that Celery publishes; ``queue``: any queue that it knows."""
    with _TEMPLATE_LOCK, Connection("memory://") as connection:
        channel: Any = connection.channel()
        producer = app.amqp.Producer(channel)
        app.send_task(_KIND, args=[_ID], task_id=_ID, queue=queue, producer=producer, ignore_result=True)
        # kombu has no public way to read a message as it lies in the queue.
        message = channel._get(queue)
        channel.queue_delete(queue)
    body = base64.b64decode(message["body"]).decode()
    message["body"] = "@BODY@"
    message["properties"]["delivery_tag"] = "@TAG@"
    message["properties"]["delivery_info"]["routing_key"] = "@QUEUE@"
    return json.dumps(message), body
