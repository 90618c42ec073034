"""Has a text engine write a batch's prompts, some at a time, through its batch queue."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from typing import Any

from graycat.batches.live import LiveBatch
from graycat.batches.spec.images import PromptRequest
from graycat.bounds.stored import parse_json
from graycat.errors import BrokerFull, EngineProtocolError, QueueFull
from graycat.fleet.model_names import choose_model
from graycat.fleet.reports import WorkerStatus
from graycat.images.prompt_controls import is_plain
from graycat.queue import events, ids
from graycat.queue.kinds import CHAT, PLAIN
from graycat.queue.messages import MessageFactory
from graycat.queue.models import NewTask
from graycat.queue.records import TaskRecords
from graycat.queue.topology import BATCH_QUEUE_TTL_S, LLM, LLM_BATCH, model_queue
from graycat.settings import Settings

#: Prompts in one answer; few enough for the context of any engine.
PROMPTS_PER_ANSWER = 20
#: Characters of one prompt.
MAX_CHARS = 300
#: How many of the earlier prompts the engine is shown, so that it does not repeat them.
SHOWN_PROMPTS = 20
#: The budget of tokens for one prompt, and for the JSON around all of them.
TOKENS_PER_PROMPT, TOKENS_FOR_JSON = 120, 64
#: The batch fails after this many useless answers in a row.
MAX_TRIES = 4

_SYSTEM = (
    "You write prompts for an image generator. Each prompt describes one picture in a single line of comma-separated "
    "phrases: subject, setting, light, style. Answer with JSON alone."
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
        return parse_prompts(self._load_answer(task_id))[: request.count - len(prompts)]

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
    count = min(PROMPTS_PER_ANSWER, request.count - len(prompts))
    text = f"{request.text}\n\nWrite {count} different prompts."
    if prompts:
        text += " None of them may repeat one of these:\n" + "\n".join(prompts[-SHOWN_PROMPTS:])

    item = {"type": "string", "minLength": 3, "maxLength": MAX_CHARS}
    array = {"type": "array", "items": item, "minItems": count, "maxItems": count}
    schema = {"type": "object", "properties": {"prompts": array}, "required": ["prompts"]}
    body: dict[str, Any] = {
        "messages": [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": text}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "prompts", "schema": schema}},
        "temperature": request.temperature,
        "max_tokens": count * TOKENS_PER_PROMPT + TOKENS_FOR_JSON,
    }
    if request.seed is not None:
        # Each question has another seed, or the engine would write the same prompts again.
        body["seed"] = request.seed + len(prompts) + useless_answers
    if request.model:
        body["model"] = request.model
    return body


def parse_prompts(answer: bytes) -> list[str]:
    """Return the prompts in an engine's answer, each on one line; none if the answer has another form."""
    try:
        text = parse_json(answer)["choices"][0]["message"]["content"]
        found = parse_json(text)["prompts"]
    except (ValueError, TypeError, KeyError, IndexError):
        return []
    if not isinstance(found, list):
        return []

    prompts = []
    for prompt in found:
        line = " ".join(prompt.split()) if isinstance(prompt, str) else ""
        # JSON can write half a character.
        line = line.encode(errors="ignore").decode()
        # Nobody has read it: it may set nothing, and cost no more than the item was checked for.
        if line and is_plain(line):
            prompts.append(line)
    return prompts
