from __future__ import annotations

import sys

from graycat.queue.kinds import LLM_KINDS, __name__
from tests.support.helpers import run

SLOTTED = ["llm.completion", "llm.infill", "llm.embeddings", "llm.rerank", "llm.chat", "llm.openai_completion"]
SLOTTED += ["llm.openai_embeddings", "llm.responses", "llm.messages"]
QUICK = ["llm.tokenize", "llm.detokenize", "llm.apply_template", "llm.count_chat", "llm.count_responses"]
QUICK += ["llm.count_messages", "llm.slots", "llm.lora_adapters", "llm.set_lora_adapters"]


def test_calls_that_need_no_slot_have_a_lane_of_their_own() -> None:
    queues = {kind.name: kind.queue for kind in LLM_KINDS.values()}
    assert queues == {
        **dict.fromkeys(SLOTTED, "llm"),
        **dict.fromkeys(QUICK, "llm.quick"),
    }


def test_naming_a_task_loads_no_engine() -> None:
    code = f"import sys, {__name__}; print([name for name in sys.modules if name.startswith('graycat.')])"
    command = [sys.executable, "-c", code]
    loaded = run(command).stdout
    assert "graycat.engines" not in loaded
    assert "graycat.tasks.llm" not in loaded
