"""The first step of a batch that has its prompts written: asks a text engine, some at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from graycat.batches.live import LiveBatch
from graycat.batches.spec.images import Ask
from graycat.queue import events, ids
from graycat.queue.kinds import CHAT, PLAIN
from graycat.queue.messages import MessageFactory
from graycat.queue.models import NewTask
from graycat.queue.records import TaskRecords
from graycat.queue.topology import BATCH_QUEUE_TTL_S, LLM_BATCH, model_queue

#: Prompts in one answer, so that any engine's context has room; and characters of one.
PORTION, MAX_CHARS = 20, 300
#: Prompts that the engine is shown, so that it writes others.
SHOWN = 20
#: Tokens that a prompt may take, and the JSON around them.
TOKENS_EACH, TOKENS_AROUND = 120, 64
#: Answers in a row that were of no use, after which the batch fails.
MAX_TRIES = 4

_SYSTEM = (
    "You write prompts for an image generator. Each prompt describes one picture in a single line of comma-separated "
    "phrases: subject, setting, light, style. Answer with JSON alone."
)


class NoPrompts(Exception):
    """Raised where the text engine has, several times, not written what was asked for."""


class PromptWriter:
    """Gets prompts out of a text engine, through its batch queue."""

    def __init__(self, records: TaskRecords, messages: MessageFactory) -> None:
        self._records = records
        self._messages = messages

    def step(self, head: LiveBatch, ask: Ask, known: Sequence[str], tries: int) -> list[str] | None:
        """Return more prompts, behind those that are known; None while they are being written. Never waits.

        Empty where an answer was of no use: ``tries`` is how many were so far. Raises NoPrompts.
        """
        if tries >= MAX_TRIES:
            raise NoPrompts
        task_id = _task_id(head, known, tries)
        record = self._records.get(task_id)
        if not record:
            self._ask(task_id, head, ask, known, tries)
            return None
        if record["state"] in ("queued", "running"):
            return None
        if record["state"] != "succeeded":
            return []
        return prompts_in(self._answer(task_id))[: ask.count - len(known)]

    def _ask(self, task_id: str, head: LiveBatch, ask: Ask, known: Sequence[str], tries: int) -> None:
        body = json.dumps(request(ask, known, tries)).encode()
        shown = {"priority": "batch", "batch": head.id}
        queue = model_queue(LLM_BATCH, ask.model)
        task = NewTask(
            task_id,
            CHAT.name,
            PLAIN,
            queue,
            body,
            head.owner,
            queue_ttl_s=BATCH_QUEUE_TTL_S,
            shown=shown,
            counted=False,
        )
        self._records.create(task, self._messages.make(CHAT.name, task_id, queue))

    def _answer(self, task_id: str) -> bytes:
        last = self._records.events(task_id)[-1:]
        return last[0].answer()[1] if last and last[0].kind == events.RESULT else b""


def _task_id(head: LiveBatch, known: Sequence[str], tries: int) -> str:
    """Return the id of the task of a question: the same question is the same task, until the batch is resumed."""
    digest = sha256(f"{head.id}/prompts/{len(known)}/{tries}/{head.started_from_ms}".encode()).hexdigest()
    return ids.task_id_for(CHAT.name, digest[: ids.CHARS])


def request(ask: Ask, known: Sequence[str], tries: int) -> dict[str, Any]:
    """Return what the engine is asked: a list of texts, which its grammar holds it to."""
    count = min(PORTION, ask.count - len(known))
    text = f"{ask.ask}\n\nWrite {count} different prompts."
    if known:
        text += " None of them may repeat one of these:\n" + "\n".join(known[-SHOWN:])
    item = {"type": "string", "minLength": 3, "maxLength": MAX_CHARS}
    prompts = {"type": "array", "items": item, "minItems": count, "maxItems": count}
    schema = {"type": "object", "properties": {"prompts": prompts}, "required": ["prompts"]}
    body: dict[str, Any] = {
        "messages": [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": text}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "prompts", "schema": schema}},
        "temperature": ask.temperature,
        "max_tokens": count * TOKENS_EACH + TOKENS_AROUND,
    }
    if ask.seed is not None:
        body["seed"] = ask.seed + len(known) + tries
    if ask.model:
        body["model"] = ask.model
    return body


def prompts_in(answer: bytes) -> list[str]:
    """Return the prompts in an engine's answer; none where it is not what was asked for."""
    try:
        text = json.loads(answer)["choices"][0]["message"]["content"]
        found = json.loads(text)["prompts"]
    except (ValueError, TypeError, KeyError, IndexError):
        return []
    if not isinstance(found, list):
        return []
    return [line for prompt in found if isinstance(prompt, str) and (line := " ".join(prompt.split()))]
