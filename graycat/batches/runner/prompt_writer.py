"""Has a text engine write a batch's prompts, some at a time, through its batch queue."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from typing import Any

from graycat.batches.live import LiveBatch
from graycat.batches.runner.written_prompts import MAX_CHARS, MIN_LETTERS, choose_usable, read_answer
from graycat.batches.spec.images import PromptRequest
from graycat.errors import BrokerFull, EngineProtocolError, QueueFull
from graycat.fleet.model_names import choose_model
from graycat.fleet.reports import WorkerStatus
from graycat.queue import events, ids
from graycat.queue.kinds import CHAT, PLAIN
from graycat.queue.messages import MessageFactory
from graycat.queue.models import NewTask
from graycat.queue.records import TaskRecords
from graycat.queue.topology import BATCH_QUEUE_TTL_S, LLM, LLM_BATCH, model_queue
from graycat.settings import Settings

#: Prompts in one answer. The more a small model is asked for, the more it repeats itself; after an answer of no use it
#: is asked for half as many.
PROMPTS_PER_ANSWER = 10
#: How many of the earlier prompts the engine is shown, so that it does not repeat them.
SHOWN_PROMPTS = 20
#: The budget of tokens for one prompt, and for the JSON around all of them.
TOKENS_PER_PROMPT, TOKENS_FOR_JSON = 120, 128
#: The batch fails after this many useless answers in a row.
MAX_TRIES = 5
#: Characters of the question that the answer begins with.
MAX_ABOUT_CHARS = 200
#: What each useless answer adds to the temperature, and the highest of what it may become.
WARMER, MAX_TEMPERATURE = 0.2, 1.5

_SYSTEM = (
    "You write prompts for an image generator. Each prompt describes one picture in a single line of comma-separated "
    "phrases: subject, setting, light, style. Answer with JSON alone."
)
#: Questions with answers. A model that was never taught to follow a sentence follows these.
_EXAMPLES = (
    (
        "old lighthouses, watercolor",
        (
            "a white lighthouse on a black cliff, storm waves, lightning, watercolor",
            "a ruined lighthouse overgrown with ivy, morning fog, soft light, watercolor",
        ),
    ),
    (
        "robots at work, comic style",
        (
            "a small round robot baking bread, bright kitchen, flour in the air, comic style",
            "a tall rusty robot watering roses, walled garden, afternoon sun, comic style",
        ),
    ),
)


class PromptsNotWritten(Exception):
    """Raised if the text engine has given MAX_TRIES useless answers in a row."""


class PromptWriter:
    """Has a text engine write prompts."""

    def __init__(self, records: TaskRecords, messages: MessageFactory, settings: Settings) -> None:
        self._records = records
        self._messages = messages
        self._settings = settings
        #: The workers that are alive; the runner sets them at each step.
        self.workers: Sequence[WorkerStatus] = ()

    def step(
        self, batch: LiveBatch, request: PromptRequest, prompts: Sequence[str], useless_answers: int
    ) -> list[str] | None:
        """Return new prompts to append to ``prompts``; None while they are being written. Never waits.

        An empty list means that the answer was useless. ``useless_answers``: how many were so far, in a row. Raises
        PromptsNotWritten.
        """
        if useless_answers >= MAX_TRIES:
            raise PromptsNotWritten
        task_id = _task_id(batch, prompts, useless_answers)
        record = self._records.get(task_id)
        if not record:
            self._create_task(task_id, batch, request, prompts, useless_answers)
            return None
        if record["state"] in ("queued", "running"):
            return None
        if record["state"] != "succeeded":
            return []
        found = choose_usable(read_answer(self._load_answer(task_id)), prompts, _not_prompts(request))
        return found[: request.count - len(prompts)]

    def _create_task(
        self, task_id: str, batch: LiveBatch, request: PromptRequest, prompts: Sequence[str], useless_answers: int
    ) -> None:
        # Not when the batch was submitted: a schedule's may be months old, and aliases change.
        model = choose_model(request.model, LLM, self.workers, self._settings).name
        queue = model_queue(LLM_BATCH, model)
        request = replace(request, model=model)
        task = NewTask(
            task_id,
            CHAT.name,
            PLAIN,
            queue,
            json.dumps(build_chat_request(request, prompts, useless_answers)).encode(),
            batch.owner,
            queue_ttl_s=BATCH_QUEUE_TTL_S,
            shown={"priority": "batch", "batch": batch.id},
            counted=False,
        )
        # If there is no room for it now, the next step tries again.
        with suppress(QueueFull, BrokerFull):
            self._records.create(task, self._messages.make(CHAT.name, task_id, queue))

    def _load_answer(self, task_id: str) -> bytes:
        last = self._records.last_event(task_id)
        if last is None or last.kind != events.RESULT:
            return b""
        with suppress(EngineProtocolError):
            return last.answer()[1]
        return b""


def _task_id(batch: LiveBatch, prompts: Sequence[str], useless_answers: int) -> str:
    """Return the id of the task that asks for the next prompts.

    The same question has the same task, so that a runner can find it after a kill. A resumed batch asks anew.
    """
    question = f"{batch.id}/prompts/{len(prompts)}/{useless_answers}/{batch.started_from_ms}"
    digest = sha256(question.encode()).hexdigest()
    return ids.task_id_for(CHAT.name, digest[: ids.CHARS])


def build_chat_request(request: PromptRequest, prompts: Sequence[str], useless_answers: int) -> dict[str, Any]:
    """Return the chat request for the next prompts. Its JSON schema forces the answer to be a list of texts."""
    most = max(1, PROMPTS_PER_ANSWER >> useless_answers)
    count = min(most, request.count - len(prompts))
    text = _question(request.text, count)
    if prompts:
        text += " None of them may repeat one of these:\n" + "\n".join(prompts[-SHOWN_PROMPTS:])

    messages = [{"role": "system", "content": _SYSTEM}]
    for about, examples in _EXAMPLES:
        messages.append({"role": "user", "content": _question(about, len(examples))})
        messages.append({"role": "assistant", "content": json.dumps({"about": about, "prompts": examples})})
    messages.append({"role": "user", "content": text})

    body: dict[str, Any] = {
        "messages": messages,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "prompts", "schema": _schema(request, count)},
        },
        "temperature": min(request.temperature + WARMER * useless_answers, max(MAX_TEMPERATURE, request.temperature)),
        # Against loops, and weak enough for quotes and commas.
        "frequency_penalty": 0.2,
        "max_tokens": count * TOKENS_PER_PROMPT + TOKENS_FOR_JSON,
    }
    if request.seed is not None:
        # Each question has another seed, or the engine would write the same prompts again.
        body["seed"] = request.seed + len(prompts) + useless_answers
    if request.model:
        body["model"] = request.model
    return body


def _question(about: str, count: int) -> str:
    return f"{about}\n\nWrite {count} different prompts."


def _schema(request: PromptRequest, count: int) -> dict[str, Any]:
    """Return the schema of an answer. It begins with what was asked: small models keep to what they have just written.

    Measured with the packaged model: without it, all prompts were about the examples.
    """
    about = " ".join(request.text.split())[:MAX_ABOUT_CHARS]
    item = {"type": "string", "minLength": MIN_LETTERS, "maxLength": MAX_CHARS}
    array = {"type": "array", "items": item, "minItems": count, "maxItems": count}
    properties = {"about": {"const": about}, "prompts": array}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _not_prompts(request: PromptRequest) -> list[str]:
    """Return what the model is told and may say again instead of a prompt."""
    texts = [_SYSTEM, _question(request.text, request.count)]
    for about, examples in _EXAMPLES:
        texts += (about, *examples)
    return texts
