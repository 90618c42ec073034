"""Windows under load: a process dies at a step of some task, on the whole system; ``--windows`` has all of them."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from chaos.faults import BREAKS, REFUSES, Fault
from chaos.hook.traps import AFTER, BEFORE, Traps
from chaos.ledger import AcceptedBatch
from chaos.load import IMAGE
from chaos.system import System
from chaos.window_stack import HOOK_ENV
from tests.support.processes import eventually

#: Seconds in which the load has work that comes to any of the steps.
REACHED_S = 40.0
#: Images of a batch.
IMAGES = 3


class Step(NamedTuple):
    """Where a process dies. ``work``: the kind of names that the load gives such work."""

    process: str
    work: str
    step: str
    side: str
    what: str
    short: bool = False


STEPS = (
    Step("llm", "text", "queue.claim", AFTER, "behind its claim", short=True),
    Step("llm", "stream", "engine POST /completion", AFTER, "when its engine has begun to answer"),
    Step("llm", "stream", "queue.publish", AFTER, "behind the first chunk of a stream"),
    Step("llm", "text", "queue.finish", BEFORE, "behind the last chunk and before the end is written"),
    Step("llm", "text", "queue.finish", AFTER, "behind the end and before the message is acknowledged"),
    Step("sd", "image", "queue.claim", AFTER, "behind its claim"),
    Step("sd", "image", "queue.finish", BEFORE, "when the image is stored and the end is not written"),
    Step("sd", "image", "queue.finish", AFTER, "behind the end and before the message is acknowledged"),
    Step("control", "batch", "append to manifest.jsonl", AFTER, "behind the line of an image in the manifest"),
    Step("control", "batch", "write an image", AFTER, "behind the file of an image"),
    Step("web", "text", "queue.create", BEFORE, "before a task is accepted"),
    Step("web", "text", "queue.create", AFTER, "when a task is accepted and its caller is not told"),
)


def submit_batch(system: System) -> None:
    """Submit a batch: that of the load has ended before a fault begins."""
    name = system.ledger.new_name("batch")
    prompts = [f"{name}-{number}" for number in range(1, IMAGES + 1)]
    document = {"name": name, "items": prompts, "defaults": IMAGE}
    view = system.request("POST", "/batches", "cron", json=document).json()
    system.ledger.accept_batch(AcceptedBatch(view["id"], prompts))


def die_at(step: Step, system: System) -> None:
    """Have a process die at a step of the first work of a kind that comes there."""
    traps = Traps(system.home / HOOK_ENV["CHAOS_TRAPS"])
    traps.arm(step.process, [f"{system.ledger.prefix}-{step.work}"], step.step, 1, step.side)
    try:
        if step.work == "batch":
            submit_batch(system)
        eventually(lambda: traps.has_sprung(step.process), REACHED_S)
        system.harm_done()
    finally:
        traps.disarm(step.process)


def _fault(step: Step) -> Fault:
    permits: frozenset[str] = frozenset()
    if step.process == "web":
        permits = BREAKS | REFUSES
    name = f"{step.process} at {step.work}: {step.side} {step.step}"
    what = f"{step.process} is killed {step.what}"
    return Fault(name, "windows", what, partial(die_at, step), short=step.short, env=HOOK_ENV, permits=permits)


FAULTS = [_fault(step) for step in STEPS]
