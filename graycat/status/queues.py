"""The queues of a snapshot: which there are, how long they are, and what of them workers could take now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from graycat.fleet.reports import WorkerStatus
from graycat.fleet.workers import select_serving
from graycat.queue import topology
from graycat.queue.names import base_queue
from graycat.queue.topology import CONTROL, engine_queues
from graycat.status.batches import BatchSnapshot
from graycat.status.scaling import OpenWork


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """A queue, with those of its models and workers. ``oldest_s``: how long its oldest task has waited; 0 for none."""

    depth: int
    oldest_s: float
    consumers: int
    paused: bool


def list_queues(workers: list[WorkerStatus], with_turns: Iterable[str]) -> list[str]:
    """Return every queue that may hold tasks: the shared ones, and those of models and of workers."""
    names = {*topology.QUEUES, *with_turns}
    for worker in workers:
        for queue in worker.queues:
            names.update(engine_queues(queue, worker.models, worker.name))
    return sorted(names)


def summarize_queues(
    workers: list[WorkerStatus], depths: Mapping[str, tuple[int, float]], paused: set[str], overdue_s: float
) -> dict[str, QueueSnapshot]:
    """Return the shared queues.

    ``depths``: for each queue how many tasks wait and for how long (s) the oldest has. ``overdue_s``: for how long the
    next delivery to a webhook has been due.
    """
    queues = {}
    for queue in topology.QUEUES:
        depth = 0
        oldest_s = 0.0
        for name, (waiting, waited_s) in depths.items():
            if base_queue(name) == queue:
                depth += waiting
                oldest_s = max(oldest_s, waited_s)
        if queue == CONTROL:
            # Its tasks have no records. A delivery that is overdue means the same.
            oldest_s = overdue_s
        queues[queue] = QueueSnapshot(depth, oldest_s, len(select_serving(workers, queue)), queue in paused)
    return queues


def find_open_work(
    queues: Mapping[str, QueueSnapshot], workers: list[WorkerStatus], batches: BatchSnapshot
) -> OpenWork:
    """Return the work that workers could take now: none of a paused queue."""
    waiting = {name: queue.depth for name, queue in queues.items() if not queue.paused}
    if queues[topology.SD_BATCH].paused:
        return OpenWork(waiting, workers)
    return OpenWork(waiting, workers, batches.left, batches.left_at_once)
