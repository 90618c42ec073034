"""Kinds of tasks: their names, queues and engine routes, which is all that a web process needs to know of them."""

from __future__ import annotations

from dataclasses import dataclass

from graycat import families
from graycat.families import EngineFamily
from graycat.queue.topology import CONTROL, LLM, LLM_QUICK, SD

#: How a worker calls its engine. STREAM: every event is passed on. PLAIN: one request, one reply; the worker makes it
#: GATHER if it can (graycat/tasks/llm_gather.py). GATHER: a stream whose events are put together to the answer of a
#: plain call, because only a streamed call stops when its connection is closed. LIVE: like GATHER, and every event is
#: passed on too.
STREAM, GATHER, PLAIN, LIVE = "stream", "gather", "plain", "live"

#: Sent to a worker like a Verdict: its engine must leave out the rest of a batch of images.
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

    @property
    def family(self) -> EngineFamily:
        """Return the family of engines that runs it. Raises KeyError for control work, which needs no engine."""
        return families.BY_NAME[self.name.partition(".")[0]]


def kinds_of(family: EngineFamily) -> dict[str, Kind]:
    """Return the kinds of tasks of a family of engines by name."""
    return {name: kind for name, kind in KINDS.items() if kind.family is family}


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
#: An operator's workflow: its body names it. Callers see ``sd.workflow/NAME``; metrics and messages have few names.
WORKFLOW = Kind("sd.workflow", SD, "/sdapi/v1/workflow")
SET_OPTIONS = Kind("sd.set_options", SD, "/sdapi/v1/options")
REFRESH_CHECKPOINTS = Kind("sd.refresh_checkpoints", SD, "/sdapi/v1/refresh-checkpoints")
REFRESH_VAE = Kind("sd.refresh_vae", SD, "/sdapi/v1/refresh-vae")
REFRESH_LORAS = Kind("sd.refresh_loras", SD, "/sdapi/v1/refresh-loras")
REFRESH_EMBEDDINGS = Kind("sd.refresh_embeddings", SD, "/sdapi/v1/refresh-embeddings")
UNLOAD_CHECKPOINT = Kind("sd.unload_checkpoint", SD, "/sdapi/v1/unload-checkpoint")
RELOAD_CHECKPOINT = Kind("sd.reload_checkpoint", SD, "/sdapi/v1/reload-checkpoint")

KINDS = {kind.name: kind for kind in globals().values() if isinstance(kind, Kind)}
LLM_KINDS = kinds_of(families.LLM)
SD_KINDS = kinds_of(families.SD)

#: What metrics call a kind that this release does not know.
UNKNOWN_KIND = "unknown"

#: The delivery of a webhook; its argument is ``TASK_ID EVENT``. It is not in KINDS: it has no record and no engine.
DELIVER = Kind("control.deliver", CONTROL, "")
#: Starts the batches whose schedules are due; sent by beat (``celeryconfig``).
FIRE_SCHEDULES = Kind("control.fire_schedules", CONTROL, "")
