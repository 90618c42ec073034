"""When a batch is done: its own work, and all that goes before it by the rules of the queues.

Interactive images go first. Batches take turns, so of each other one as much is made meanwhile as of this one. A batch
with ``max_gpus`` uses no more engines than those, and one with a window works only within it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graycat.batches.spec.options import BatchOptions
from graycat.batches.states import DONE, ENDED, UNFINISHED_ITEM_STATES
from graycat.batches.throughput import ThroughputStats
from graycat.broker.client import broker_errors
from graycat.broker.keys import LIVE_BATCHES, batch_key, batch_part_key, means_key, parked_count_key
from graycat.broker.protocol import Broker
from graycat.families import SD
from graycat.fleet.workers import WorkerRegistry
from graycat.loops.unexpected import guarded

#: Seconds for which one look serves all estimates, and how many live batches it covers.
MAX_AGE_S, MAX_BATCHES = 1.0, 100
_FIELDS = ("state", "terms", "work", "total")


@dataclass(frozen=True, slots=True)
class Estimate:
    """In how many seconds a batch is done; None if that cannot be known, and ``reason`` says why."""

    eta_s: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rivals:
    """What goes on beside a batch: other batches' work (megapixel-steps) by id, and the seconds of waiting images."""

    work: Mapping[str, float]
    interactive_s: float = 0.0
    engines: int = 0
    ms_per_work: float | None = None
    #: Whether an operator has paused the queue of all batches' images.
    is_paused: bool = False


def estimate(work: float, options: BatchOptions, rivals: Rivals, now_s: float, batch_id: str = "") -> Estimate:
    """Return when ``work`` is done. ``now_s``: seconds since 1970."""
    if rivals.is_paused:
        return Estimate(None, f"the queue {SD.batch} is paused")
    if rivals.ms_per_work is None:
        return Estimate(None, "no image of a batch was measured yet")
    if not rivals.engines:
        return Estimate(None, "no engine takes batch work now")
    shared = work
    for rival, other in rivals.work.items():
        if rival != batch_id:
            shared += min(other, work)
    own_engines = min(options.max_gpus or rivals.engines, rivals.engines)
    gpu_s = rivals.ms_per_work / 1000
    needed_s = (shared * gpu_s + rivals.interactive_s) / rivals.engines
    needed_s = max(needed_s, work * gpu_s / own_engines)
    window = options.parse_window()
    if window is not None:
        needed_s = window.seconds_to_finish(now_s, needed_s)
    return Estimate(round(needed_s, 1))


class BatchForecaster:
    """Estimates of batches. Every method raises BrokerUnavailable."""

    def __init__(self, client: Broker, throughput: ThroughputStats) -> None:
        self._client, self._throughput = client, throughput
        self._rivals: tuple[float, Rivals] | None = None

    def forecast(self, work: float, options: BatchOptions, batch_id: str = "", engines: int | None = None) -> Estimate:
        """Return when ``work`` megapixel-steps of a batch are done. ``engines``: how many there are, if known."""
        rivals = self._look()
        if engines is not None:
            rivals = replace(rivals, engines=engines)
        return estimate(work, options, rivals, time.time(), batch_id)

    def _look(self) -> Rivals:
        if self._rivals is None or time.monotonic() - self._rivals[0] >= MAX_AGE_S:
            ms_per_work, engines = self._throughput.read()
            paused = WorkerRegistry(self._client).paused_queues()
            # Nothing is taken from a paused queue, so nothing in it goes first.
            interactive_s = 0.0
            if SD.interactive not in paused:
                interactive_s = self._read_interactive_s()
            rivals = Rivals(self._read_work(), interactive_s, engines, ms_per_work, SD.batch in paused)
            # Also if nothing is known yet: a list of batches asks for each of them, and each look reads them all. Its
            # age counts from its end, since on a busy machine a look may take longer than MAX_AGE_S.
            self._rivals = (time.monotonic(), rivals)
        return self._rivals[1]

    def _read_interactive_s(self) -> float:
        queue = SD.interactive
        with broker_errors(), self._client.pipeline(transaction=False) as pipe:
            pipe.llen(queue)
            pipe.get(parked_count_key(queue))
            pipe.hget(means_key(SD.name), queue)
            waiting, parked, mean_ms = pipe.execute(raise_on_error=False)
        with guarded("batch throughput"):
            return (int(waiting) + int(parked or 0)) * int(mean_ms or 0) / 1000
        return 0.0

    def _read_work(self) -> dict[str, float]:
        """Return what is left of each live batch that may start items now."""
        with broker_errors():
            ids = [name.decode(errors="replace") for name in self._client.zrange(LIVE_BATCHES, 0, MAX_BATCHES - 1)]
            with self._client.pipeline(transaction=False) as pipe:
                for batch_id in ids:
                    pipe.hmget(batch_key(batch_id), _FIELDS)
                    for state in UNFINISHED_ITEM_STATES:
                        pipe.zcard(batch_part_key(batch_id, state))
                    pipe.zcard(batch_part_key(batch_id, DONE))
                replies = pipe.execute(raise_on_error=False)
        length = 2 + len(UNFINISHED_ITEM_STATES)
        work: dict[str, float] = {}
        for index, batch_id in enumerate(ids):
            with guarded("batch throughput"):
                work[batch_id] = _work_left(replies[index * length : (index + 1) * length], time.time())
        return work


def _work_left(row: Sequence[Any], now_s: float) -> float:
    """Return the megapixel-steps that are left of a batch; 0 if it starts none now."""
    (state, terms, work, total), *counts = row
    if state is None or state.decode() in (*ENDED, "paused"):
        return 0.0
    window = BatchOptions.from_json((terms or b"{}").decode()).parse_window()
    if window is not None and not window.is_open(now_s):
        return 0.0
    count = max(int(total or 0), 1)
    unfinished = sum(counts[:-1])
    if not sum(counts):
        # It is not planned yet.
        unfinished = count
    left: int = min(unfinished, count)
    return float(work or 0) / count * left
