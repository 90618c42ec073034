"""What a task is called, where it queues and which engine route it is for: all that a web process needs of one."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from celery import Celery
from kombu import Connection

#: How a worker calls its engine. STREAM: every event is passed on. GATHER: streamed all the same, because only a
#: stream stops when it is hung up, and put together to the answer of a plain call. PLAIN: one request, one reply.
#: LIVE: as GATHER, and every event is passed on too.
STREAM, GATHER, PLAIN, LIVE = "stream", "gather", "plain", "live"

#: Calls that need a slot of the engine, and calls that do not: those have a lane of their own.
LLM, LLM_QUICK = "llm", "llm.quick"
#: Images, one at a time an engine.
SD = "sd"
#: Images in the gaps.
SD_BATCH = "sd.batch"
#: Work that needs no engine.
CONTROL = "control"
#: What a worker is told beside the verdicts of a record: to leave out the rest of a batch.
SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of task: the Celery task's name, its queue, and the engine's route.

    ``ending``: what the last event of a whole stream holds; without it the stream was cut off.
    """

    name: str
    queue: str
    path: str
    method: str = "POST"
    ending: bytes = b""


_NATIVE_END, _OPENAI_END = b'"stop":true', b"[DONE]"

COMPLETION = Kind("llm.completion", LLM, "/completion", ending=_NATIVE_END)
INFILL = Kind("llm.infill", LLM, "/infill", ending=_NATIVE_END)
EMBEDDINGS = Kind("llm.embeddings", LLM, "/embeddings")
RERANK = Kind("llm.rerank", LLM, "/rerank")

CHAT = Kind("llm.chat", LLM, "/v1/chat/completions", ending=_OPENAI_END)
OPENAI_COMPLETION = Kind("llm.openai_completion", LLM, "/v1/completions", ending=_OPENAI_END)
OPENAI_EMBEDDINGS = Kind("llm.openai_embeddings", LLM, "/v1/embeddings")
RESPONSES = Kind("llm.responses", LLM, "/v1/responses", ending=b"response.completed")
MESSAGES = Kind("llm.messages", LLM, "/v1/messages", ending=b"message_stop")

TOKENIZE = Kind("llm.tokenize", LLM_QUICK, "/tokenize")
DETOKENIZE = Kind("llm.detokenize", LLM_QUICK, "/detokenize")
APPLY_TEMPLATE = Kind("llm.apply_template", LLM_QUICK, "/apply-template")
COUNT_CHAT = Kind("llm.count_chat", LLM_QUICK, "/v1/chat/completions/input_tokens")
COUNT_RESPONSES = Kind("llm.count_responses", LLM_QUICK, "/v1/responses/input_tokens")
COUNT_MESSAGES = Kind("llm.count_messages", LLM_QUICK, "/v1/messages/count_tokens")
SLOTS = Kind("llm.slots", LLM_QUICK, "/slots", method="GET")
LORA_ADAPTERS = Kind("llm.lora_adapters", LLM_QUICK, "/lora-adapters", method="GET")
SET_LORA_ADAPTERS = Kind("llm.set_lora_adapters", LLM_QUICK, "/lora-adapters")

TXT2IMG = Kind("sd.txt2img", SD, "/sdapi/v1/txt2img")
IMG2IMG = Kind("sd.img2img", SD, "/sdapi/v1/img2img")
EXTRA_SINGLE = Kind("sd.extra_single", SD, "/sdapi/v1/extra-single-image")
EXTRA_BATCH = Kind("sd.extra_batch", SD, "/sdapi/v1/extra-batch-images")
INTERROGATE = Kind("sd.interrogate", SD, "/sdapi/v1/interrogate")
SET_OPTIONS = Kind("sd.set_options", SD, "/sdapi/v1/options")
REFRESH_CHECKPOINTS = Kind("sd.refresh_checkpoints", SD, "/sdapi/v1/refresh-checkpoints")
REFRESH_VAE = Kind("sd.refresh_vae", SD, "/sdapi/v1/refresh-vae")
REFRESH_LORAS = Kind("sd.refresh_loras", SD, "/sdapi/v1/refresh-loras")
REFRESH_EMBEDDINGS = Kind("sd.refresh_embeddings", SD, "/sdapi/v1/refresh-embeddings")
UNLOAD_CHECKPOINT = Kind("sd.unload_checkpoint", SD, "/sdapi/v1/unload-checkpoint")
RELOAD_CHECKPOINT = Kind("sd.reload_checkpoint", SD, "/sdapi/v1/reload-checkpoint")

KINDS = {kind.name: kind for kind in globals().values() if isinstance(kind, Kind)}
LLM_KINDS = {name: kind for name, kind in KINDS.items() if name.startswith("llm.")}
SD_KINDS = {name: kind for name, kind in KINDS.items() if name.startswith("sd.")}

#: Telling a webhook; its argument is ``TASK_ID EVENT``. None of those above: it has no record and no engine.
DELIVER = Kind("control.deliver", CONTROL, "")
#: Firing what is due by the schedules; sent by beat (``celeryconfig``).
FIRE_SCHEDULES = Kind("control.fire_schedules", CONTROL, "")


def worker_queue(queue: str, worker: str) -> str:
    """Return the queue of tasks that are for one worker's engine alone."""
    return f"{queue}:@{worker}"


def model_queue(queue: str, model: str) -> str:
    """Return the queue of tasks that only workers with a certain model may take."""
    return f"{queue}:{model}"


_ID = "00000000-task-id-goes-here"


class MessageFactory:
    """Makes the Celery messages of tasks, without a broker round trip and without Celery's cost a call.

    Celery itself publishes one message a kind into kombu's in-memory transport; what it wrote is the template.
    So the format is that of the installed Celery, and making a message is a few string operations. The message then
    enters its queue in the same script that writes the record: a task is accepted whole or not at all.
    """

    def __init__(self, app: Celery, kinds: Iterable[Kind] = KINDS.values()) -> None:
        self._kinds = {kind.name: kind for kind in kinds}
        self._templates = {name: _template(app, kind) for name, kind in self._kinds.items()}

    def make(self, kind: str, task_id: str, queue: str = "") -> bytes:
        """Return the message that a worker finds in ``queue``: one of a model, or the kind's own (the default)."""
        envelope, body = self._templates[kind]
        payload = base64.b64encode(body.replace(_ID, task_id).encode()).decode()
        text = envelope.replace(_ID, task_id).replace("@BODY@", payload).replace("@TAG@", str(uuid4()))
        return text.replace('"@QUEUE@"', json.dumps(queue or self._kinds[kind].queue)).encode()


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
    message["properties"]["delivery_info"]["routing_key"] = "@QUEUE@"
    return json.dumps(message), body
