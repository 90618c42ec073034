"""Which queues there are, and which kind of worker takes from which; both follow from the table of engine families."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from graycat import families
from graycat.families import FAMILIES, EngineFamily
from graycat.queue.names import QueueName, base_queue

LLM, LLM_QUICK, LLM_BATCH = families.LLM.interactive, families.LLM.quick, families.LLM.batch
SD, SD_BATCH = families.SD.interactive, families.SD.batch
#: Seconds that a batch task may wait in its queue: it runs only when nothing interactive waits, so it may wait long.
BATCH_QUEUE_TTL_S = 7 * 24 * 3600.0
#: Work that needs no engine.
CONTROL = "control"


@dataclass(frozen=True, slots=True)
class WorkerKind:
    """A kind of worker, started by ``graycat worker NAME``. ``queues``: in the order of their priority."""

    name: str
    queues: tuple[str, ...]
    help: str
    #: How far behind GRAYCAT_METRICS_PORT its metrics are served.
    metrics_offset: int
    #: None for one that needs no engine.
    family: EngineFamily | None = None


def _worker_kinds() -> dict[str, WorkerKind]:
    """Return the kinds of workers by name: for each family its own and that of its quick calls, then control."""
    kinds: list[WorkerKind] = []
    for family in FAMILIES:
        queues = (family.interactive, family.batch)
        kinds.append(WorkerKind(family.name, queues, family.worker_help, family.metrics_offset, family))
        if family.quick:
            text, offset = family.quick_worker_help, family.quick_metrics_offset
            kinds.append(WorkerKind(family.quick_worker, (family.quick,), text, offset, family))
    text = "Run a worker for webhooks, batches and schedules."
    kinds.append(WorkerKind(CONTROL, (CONTROL,), text, metrics_offset=0))
    return {kind.name: kind for kind in kinds}


def _queues() -> tuple[str, ...]:
    """Return every shared queue: interactive and quick ones first, then batches, then control."""
    urgent: list[str] = []
    batch: list[str] = []
    for family in FAMILIES:
        urgent.append(family.interactive)
        if family.quick:
            urgent.append(family.quick)
        batch.append(family.batch)
    return (*urgent, *batch, CONTROL)


WORKER_KINDS = _worker_kinds()
#: Interactive before batch: a worker's queues are a list of priorities.
QUEUES = _queues()
#: Calls that need no slot of an engine.
QUICK_QUEUES = frozenset(family.quick for family in FAMILIES if family.quick)


def worker_queue(queue: str, worker: str) -> str:
    """Return the queue of tasks that are for one worker's engine alone."""
    return str(QueueName.parse(queue).of_worker(worker))


def model_queue(queue: str, model: str) -> str:
    """Return the queue of tasks that only workers with a certain model may take."""
    return str(QueueName.parse(queue).of_model(model))


def engine_queues(queue: str, models: Iterable[str], worker: str) -> list[str]:
    """Return the queues beside a shared one that a worker takes too: those of its engine's models, and its own."""
    name = QueueName.parse(queue)
    names = []
    for model in models:
        names.append(str(name.of_model(model)))
    family = families.find_by_kind(queue)
    if family is not None and family.has_worker_queues:
        names.append(str(name.of_worker(worker)))
    return names


def worker_kind_of(queue: str) -> str:
    """Return the kind of worker that takes from a queue, also from one of a model or of one worker; '' for none."""
    base = base_queue(queue)
    for kind in WORKER_KINDS.values():
        if base in kind.queues:
            return kind.name
    return ""
