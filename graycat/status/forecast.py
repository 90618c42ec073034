"""When a task that waits will be started: the fleet's own rules of order, played forward from now.

A worker takes from its queues in a strict order (``graycat.worker.gate``), within one in turns between the API tokens
(``queue/lua/turns.lua``), so a batch task goes behind all that is interactive. The same is done here with numbers: each
slot ends what it runs, takes the next task, and so on until it takes the one that was asked about.

It is what is known now: what comes in meanwhile goes before a batch task, too.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from graycat.fleet.reports import WorkerStatus
from graycat.queue.names import Lane, QueueName, base_queue
from graycat.queue.topology import engine_queues

#: So many starts are played one by one; what lies behind them is counted with the average.
MAX_STARTS = 256
#: The most slots that one worker's report counts with.
MAX_SLOTS = 64


@dataclass(frozen=True, slots=True)
class Wait:
    """A task's place among all that will be started before it, from 1, and the seconds until then.

    ``eta_s`` is None if that cannot be known, and ``reason`` then says why.
    """

    position: int
    eta_s: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Taker:
    """A worker that takes tasks now: its queues, the first first, and for each slot the seconds until it is free."""

    queues: tuple[str, ...]
    free_in_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """What stands before a task of ``queue``: so many tasks in each queue, and the seconds that one of each takes."""

    queue: str
    ahead: Mapping[str, int]
    task_s: Mapping[str, float]


def queues_of(worker: WorkerStatus, paused: frozenset[str] = frozenset()) -> list[str]:
    """Return the queues that a worker takes from, in their order: ``GateStep`` joins them so."""
    excluded = paused | set(worker.left)
    taken: list[str] = []
    for queue in worker.queues:
        if queue in excluded:
            continue
        taken.append(queue)
        taken += [name for name in engine_queues(queue, worker.models, worker.name) if name not in excluded]
    return taken


def takes_now(worker: WorkerStatus) -> bool:
    """Return whether a worker takes tasks at all."""
    return worker.consuming and not worker.paused and worker.engine_state == "ready"


def queues_before(queue: str, workers: Sequence[WorkerStatus], paused: frozenset[str]) -> list[str]:
    """Return the queues from which those workers that take from ``queue`` take sooner.

    Without such a worker these are the ones that any worker would take from sooner.
    """
    before: dict[str, None] = {}
    is_taken = False
    for worker in workers:
        taken = queues_of(worker, paused)
        if takes_now(worker) and queue in taken:
            is_taken = True
            before.update(dict.fromkeys(taken[: taken.index(queue)]))
    if is_taken:
        return list(before)
    name = QueueName.parse(queue)
    if name.lane == Lane.QUICK:
        return []
    urgent = name.in_lane(Lane.INTERACTIVE)
    candidates = [urgent.base, str(urgent), name.base]
    # What is in a paused queue, or in one of a paused queue's models, goes before nothing.
    return [one for one in dict.fromkeys(candidates) if one != queue and paused.isdisjoint((one, base_queue(one)))]


def why_unknown(queue: str, workers: Sequence[WorkerStatus], paused: frozenset[str]) -> str:
    """Return why no task of a queue is started now, as a sentence; '' if a worker takes from it."""
    for name in (base_queue(queue), queue):
        if name in paused:
            return f"the queue {name} is paused"
    able = [worker for worker in workers if queue in queues_of(replace(worker, left=()))]
    if not able:
        return f"no worker that takes from the queue {queue} is alive"
    if any(takes_now(worker) and queue in queues_of(worker, paused) for worker in able):
        return ""
    if all(worker.paused for worker in able):
        return f"all workers of the queue {queue} are paused or drained"
    if any(worker.engine_state != "ready" for worker in able):
        return f"no engine for the queue {queue} is ready"
    return f"no worker takes from the queue {queue} now"


def find_start(takers: Sequence[Taker], line: Line) -> tuple[int, float]:
    """Return the place in which the task behind a line is started, from 1, and in how many seconds.

    A slot that takes from none of the queues before the task, nor from its own, takes no part.
    """
    ahead = dict(line.ahead)
    slots = [(free_s, number, taker) for number, (free_s, taker) in enumerate(_slots(takers))]
    heapq.heapify(slots)
    count = len(slots)
    started, now_s = 0, 0.0
    while slots and started < MAX_STARTS:
        now_s, number, taker = slots[0]
        queue = _next_queue(taker, ahead, line.queue)
        if queue is None:
            heapq.heappop(slots)
            continue
        if queue == line.queue and not ahead.get(queue):
            return started + 1, now_s
        ahead[queue] -= 1
        started += 1
        heapq.heapreplace(slots, (now_s + line.task_s[queue], number, taker))
    left_s = sum(waiting * line.task_s[queue] for queue, waiting in ahead.items())
    return started + sum(ahead.values()) + 1, now_s + left_s / max(count, 1)


def _slots(takers: Sequence[Taker]) -> list[tuple[float, Taker]]:
    return [(free_s, taker) for taker in takers for free_s in taker.free_in_s]


def _next_queue(taker: Taker, ahead: Mapping[str, int], own: str) -> str | None:
    """Return the queue from which a worker takes its next task; None if it takes from neither of these."""
    for queue in taker.queues:
        if ahead.get(queue) or queue == own:
            return queue
    return None
