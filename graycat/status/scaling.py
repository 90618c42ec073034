"""How many workers each family would need now: a hint for what starts and stops machines. docs/scaling.md.

Depths, durations and reports may be wrong, or lies of a box. So every number has bounds, and the hint those of the
settings. A hint never grows above what is needed now, and falls only when less has been needed for a while.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median_low

from graycat.broker.client import broker_errors
from graycat.broker.keys import means_key, needs_key
from graycat.broker.protocol import Broker, Pipeline
from graycat.broker.scripts import Scripts
from graycat.families import FAMILIES, SD, EngineFamily
from graycat.fleet.reports import WorkerStatus
from graycat.fleet.workers import select_serving
from graycat.settings import Settings

#: Seconds of a task before any of its queue was measured, and the least that one counts with.
UNMEASURED_S, MIN_TASK_S = 10.0, 0.01
#: The most slots that a worker's report counts with.
MAX_SLOTS = 64
#: Needs are kept in steps of this many seconds at least, and in about this many steps.
MIN_STEP_S, STEPS = 5, 60
_STARTING = ("downloading", "loading")


@dataclass(frozen=True, slots=True)
class ScaleHint:
    """How many workers a family should have, and the numbers from which that follows.

    ``hint``: between the bounds of the settings, and held for a while. ``need``: of this moment, without bounds.
    ``serving``, ``starting``: workers that take its tasks, and that load their engine. ``slots``: of one worker.
    ``task_s``, ``batch_task_s``: seconds that an interactive and a batch task take.
    """

    hint: int
    need: int
    serving: int
    starting: int
    waiting: int
    running: int
    batch_left: int
    slots: int
    task_s: float
    batch_task_s: float
    min: int
    max: int


@dataclass(frozen=True, slots=True)
class OpenWork:
    """What a snapshot knows of open work: tasks that wait in each shared queue that is not paused, and the workers.

    ``items``: images that batches may make now. ``items_at_once``: how many of them they may make at the same time.
    """

    waiting: Mapping[str, int]
    workers: Sequence[WorkerStatus]
    items: int = 0
    items_at_once: int = 0


@dataclass(frozen=True, slots=True)
class Demand:
    """What is known of a family's work now.

    ``waiting``, ``quick``: tasks in its interactive queue, and in that of calls that need no slot.
    ``batch``: tasks in its batch queue. ``items``: images of batches that are not made yet; ``items_at_once``: how
    many of these may be made at the same time. ``means_ms``: how long tasks of each of its queues take.
    """

    waiting: int = 0
    quick: int = 0
    batch: int = 0
    items: int = 0
    items_at_once: int = 0
    means_ms: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Work:
    """Tasks of one class: those that run, all that are left with them, and the seconds of one."""

    running: int
    left: int
    task_s: float


def interactive_workers(work: Work, slots: int, wait_s: float) -> int:
    """Return the workers that go on with what runs, and begin all that waits within ``wait_s``."""
    waiting = work.left - work.running
    needed = work.running + waiting * min(1.0, work.task_s / wait_s)
    # Not one more for an error in the last digit.
    return math.ceil(round(needed / slots, 6))


def batch_workers(work: Work, at_once: int, slots: int, within_s: float) -> int:
    """Return the workers that finish all batch work in ``within_s``; one at least if there is any.

    ``at_once``: how many of its tasks may run at the same time.
    """
    needed = max(1.0, work.left * work.task_s / within_s)
    return math.ceil(round(min(needed, at_once) / slots, 6))


def find_hint(family: EngineFamily, settings: Settings, demand: Demand, workers: Sequence[WorkerStatus]) -> ScaleHint:
    """Return what a family needs now; its hint is not held yet."""
    own = [worker for worker in workers if family.interactive in worker.queues]
    slots = _slots_per_worker(own, family.slots(settings))
    running, batch_running = _count_running(own)
    task_s = _seconds(family.interactive, demand, family.deadlines(settings)[1])
    batch_task_s = _seconds(family.batch, demand, family.deadlines(settings)[1])
    least, most, most_for_batches = family.worker_bounds(settings)

    # Workers that are started now help no sooner than they are there.
    wait_s = max(settings.scale_wait_s, settings.scale_start_s)
    need = interactive_workers(Work(running, running + demand.waiting, task_s), slots, wait_s)
    if demand.quick:
        need = max(need, 1)
    batch_left = max(demand.batch + batch_running, demand.items)
    if batch_left:
        # Only images of batches are held back by their batch (``max_gpus``).
        at_once = batch_left - demand.items + demand.items_at_once
        batch = Work(batch_running, batch_left, batch_task_s)
        need = max(need, min(batch_workers(batch, at_once, slots, settings.scale_batch_s), most_for_batches))
    return ScaleHint(
        hint=min(max(need, least), most),
        need=need,
        serving=len(select_serving(own, family.interactive)),
        starting=sum(worker.engine_state in _STARTING and not worker.crash_loop for worker in own),
        waiting=demand.waiting,
        running=running,
        batch_left=batch_left,
        slots=slots,
        task_s=round(task_s, 3),
        batch_task_s=round(batch_task_s, 3),
        min=least,
        max=most,
    )


def _slots_per_worker(workers: Iterable[WorkerStatus], default: int) -> int:
    """Return the slots of a worker: the median of the boxes' medians, so that no box decides alone among many."""
    by_box: dict[str, list[int]] = defaultdict(list)
    for worker in workers:
        if worker.engine_state == "ready":
            box = worker.name.partition("@")[2].partition("-gpu")[0]
            by_box[box].append(min(max(worker.slots, 1), MAX_SLOTS))
    if not by_box:
        return default
    return median_low(median_low(slots) for slots in by_box.values())


def _count_running(workers: Iterable[WorkerStatus]) -> tuple[int, int]:
    """Return how many interactive and how many batch tasks run. No worker runs more than it may have slots."""
    running = batch_running = 0
    for worker in workers:
        busy = min(worker.busy, worker.slots, MAX_SLOTS)
        batch = min(worker.busy_batch, busy)
        running += busy - batch
        batch_running += batch
    return running, batch_running


def _seconds(queue: str, demand: Demand, most_s: float) -> float:
    mean_ms = demand.means_ms.get(queue)
    if mean_ms is None:
        return min(UNMEASURED_S, most_s)
    return min(max(mean_ms / 1000, MIN_TASK_S), most_s)


def request_means(pipe: Pipeline) -> None:
    """Add the commands for how long tasks take to a pipeline; one reply a family, for ``parse_means``."""
    for family in FAMILIES:
        pipe.hmget(means_key(family.name), (family.interactive, family.batch))


def parse_means(family: EngineFamily, reply: Sequence[bytes | None]) -> dict[str, int]:
    """Return the mean milliseconds of a family's tasks by queue. A box may have written anything there."""
    means = {}
    for queue, value in zip((family.interactive, family.batch), reply, strict=False):
        if value is not None and re.fullmatch(rb"[0-9]{1,12}", value):
            means[queue] = int(value)
    return means


class NeedHistory:
    """What each family has needed lately. It lies in the broker, so that all web processes say the same."""

    def __init__(self, client: Broker, settings: Settings) -> None:
        self._scripts = Scripts(client, Path(__file__).parent / "lua", ("needs",))
        self._start_s, self._down_s = settings.scale_start_s, settings.scale_down_s
        self._step_s = max(MIN_STEP_S, math.ceil(self._down_s / STEPS))

    def hold(self, family: EngineFamily, found: ScaleHint, now_s: int) -> int:
        """Note a family's need and return its hint. Raises BrokerUnavailable, redis.ResponseError for a broken key.

        The hint is what was needed within the time in which a worker starts, so that none is stopped while it
        starts. Of what was needed before, as many are kept as there are: no engine is started for the past.
        """
        step = now_s // self._step_s * self._step_s
        times = (step, math.floor(now_s - self._down_s), math.floor(now_s - self._start_s))
        with broker_errors():
            lately, before = self._scripts.run("needs", [needs_key(family.name)], (found.hint, *times))
        present = found.serving + found.starting
        return min(max(found.hint, int(lately), min(int(before), present)), found.max)


def find_demand(family: EngineFamily, work: OpenWork, means_ms: Mapping[str, int]) -> Demand:
    """Return a family's demand."""
    waiting, quick, batch = (work.waiting.get(queue, 0) for queue in (family.interactive, family.quick, family.batch))
    if family is SD:
        return Demand(waiting, quick, batch, work.items, work.items_at_once, means_ms)
    return Demand(waiting, quick, batch, means_ms=means_ms)
