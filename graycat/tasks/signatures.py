"""What a task is called, where it queues and which engine route it is for: all that a web process needs of one."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from celery import Celery
from kombu import Connection

#: How a worker calls its engine. STREAM: every event is passed on. GATHER: streamed all the same, because only a
#: stream stops when it is hung up, and put together to the answer of a plain call. PLAIN: one request, one reply.
STREAM, GATHER, PLAIN = "stream", "gather", "plain"

#: Calls that need a slot of the engine, and calls that do not: those have a lane of their own.
LLM, LLM_QUICK = "llm", "llm.quick"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of task: the Celery task's name, its queue, and the engine's route."""

    name: str
    queue: str
    path: str


COMPLETION = Kind("llm.completion", LLM, "/completion")
TOKENIZE = Kind("llm.tokenize", LLM_QUICK, "/tokenize")
DETOKENIZE = Kind("llm.detokenize", LLM_QUICK, "/detokenize")
APPLY_TEMPLATE = Kind("llm.apply_template", LLM_QUICK, "/apply-template")

LLM_KINDS = {kind.name: kind for kind in (COMPLETION, TOKENIZE, DETOKENIZE, APPLY_TEMPLATE)}

_ID = "00000000-task-id-goes-here"


class MessageFactory:
    """Makes the Celery messages of tasks, without a broker round trip and without Celery's cost a call.

    Celery itself publishes one message a kind into kombu's in-memory transport; what it wrote is the template.
    So the format is that of the installed Celery, and making a message is a few string operations. The message then
    enters its queue in the same script that writes the record: a task is accepted whole or not at all.
    """

    def __init__(self, app: Celery) -> None:
        self._templates = {name: _template(app, kind) for name, kind in LLM_KINDS.items()}

    def make(self, kind: str, task_id: str) -> bytes:
        """Return the message that a worker finds in the kind's queue."""
        envelope, body = self._templates[kind]
        payload = base64.b64encode(body.replace(_ID, task_id).encode()).decode()
        text = envelope.replace(_ID, task_id).replace("@BODY@", payload).replace("@TAG@", str(uuid4()))
        return text.encode()


def _template(app: Celery, kind: Kind) -> tuple[str, str]:
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
    return json.dumps(message), body
