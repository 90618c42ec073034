"""The Celery messages of tasks."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any
from uuid import uuid4

from celery import Celery
from kombu import Connection

from graycat.queue.kinds import KINDS, Kind
from graycat.queue.names import base_queue

_ID = "00000000-task-id-goes-here"


class MessageFactory:
    """Makes the Celery messages of tasks, without a broker round trip and without Celery's cost a call.

    Celery itself publishes one message per kind into kombu's in-memory transport; that message is the template.
    So the format is that of the installed Celery, and making a message takes a few string operations. The script that
    writes the record also puts the message on its queue: a task is accepted completely or not at all.
    """

    def __init__(self, app: Celery, kinds: Iterable[Kind] = KINDS.values()) -> None:
        self._app = app
        self._queues: dict[str, str] = {}
        self._templates: dict[str, tuple[str, str]] = {}
        for kind in kinds:
            self._add_template(kind)

    def _add_template(self, kind: Kind) -> None:
        self._queues[kind.name] = kind.queue
        self._templates[kind.name] = _make_template(self._app, kind)

    def make(self, kind: str, task_id: str, queue: str = "") -> bytes:
        """Return the message of a task in ``queue``; by default the queue of its kind, if that is a kind known here."""
        if kind not in self._templates:
            # A task of a newer release, which its workers know.
            self._add_template(Kind(kind, base_queue(queue), ""))
        envelope, body = self._templates[kind]
        payload = base64.b64encode(body.replace(_ID, task_id).encode()).decode()
        text = envelope.replace(_ID, task_id).replace("@BODY@", payload).replace("@TAG@", str(uuid4()))
        return text.replace('"@QUEUE@"', json.dumps(queue or self._queues[kind])).encode()


def _make_template(app: Celery, kind: Kind) -> tuple[str, str]:
    """Return envelope and body of the message that Celery publishes for a kind."""
    with Connection("memory://") as connection:
        channel: Any = connection.channel()
        producer = app.amqp.Producer(channel)
        app.send_task(kind.name, args=[_ID], task_id=_ID, queue=kind.queue, producer=producer, ignore_result=True)
        # kombu has no public way to read a message as it lies in the queue.
        message = channel._get(kind.queue)
        channel.queue_delete(kind.queue)
    body = base64.b64decode(message["body"]).decode()
    message["body"] = "@BODY@"
    message["properties"]["delivery_tag"] = "@TAG@"
    message["properties"]["delivery_info"]["routing_key"] = "@QUEUE@"
    return json.dumps(message), body
