"""Which queues there are, and which kind of worker takes from which."""

from __future__ import annotations

#: Calls that need a slot of the engine, and calls that do not: those have a lane of their own.
LLM, LLM_QUICK = "llm", "llm.quick"
#: Images, one at a time an engine.
SD = "sd"
#: Images in the gaps.
SD_BATCH = "sd.batch"
#: Seconds that a batch task may wait in its queue: it runs only when nothing interactive waits, so it may wait long.
BATCH_QUEUE_TTL_S = 7 * 24 * 3600.0
#: Work that needs no engine.
CONTROL = "control"
#: Interactive before batch: a worker's queues are a list of priorities.
QUEUES = ("llm", "llm.quick", "sd", "llm.batch", "sd.batch", "control")
#: What each kind of worker takes, in this order.
WORKERS = {"llm": ("llm", "llm.batch"), "quick": ("llm.quick",), "sd": ("sd", "sd.batch"), "control": ("control",)}


def worker_queue(queue: str, worker: str) -> str:
    """Return the queue of tasks that are for one worker's engine alone."""
    return f"{queue}:@{worker}"


def model_queue(queue: str, model: str) -> str:
    """Return the queue of tasks that only workers with a certain model may take."""
    return f"{queue}:{model}"


def kind_of(queue: str) -> str:
    """Return the kind of worker that takes from a queue, also from one of a model or of one worker; '' for none."""
    name = queue.partition(":")[0]
    return next((kind for kind, queues in WORKERS.items() if name in queues), "")


def unacked(kind: str) -> dict[str, str]:
    """Return where workers of a kind keep what they have taken and not finished.

    Each kind by itself: who restores what a dead worker has left may then be a stranger to the queues of other kinds.
    """
    names = ("unacked", "unacked_index", "unacked_mutex")
    return {f"{name}_key": f"{name}:{kind}" if kind else name for name in names}
