"""Gauges out of one look at the broker; exported by web processes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from graycat.errors import BrokerUnavailable
from graycat.queue.topology import QUICK_QUEUES
from graycat.status.batches import BatchSnapshot
from graycat.status.snapshot import Snapshot

#: What an engine may be; a worker without one is ready.
STATES = ("stopped", "downloading", "loading", "ready", "stuck")

QUEUES = {
    "graycat_queue_depth": "Tasks that wait in a queue, those of single models and workers with it.",
    "graycat_queue_oldest_seconds": "Seconds that the oldest waiting task of a queue has waited; 0 where none waits.",
    "graycat_queue_consumers": "Workers that serve a queue right now: they consume, and their engine is ready.",
    "graycat_queue_paused": "1 where an operator has paused the queue.",
}
WORKERS = {
    "graycat_worker_up": "1 for a worker that reports; 0 for one that fell silent in the last minutes.",
    "graycat_worker_consuming": "1 where a worker's main loop runs and takes tasks.",
    "graycat_worker_paused": "1 where an operator has paused the worker.",
}
ENGINES = {
    "graycat_engine_failures": "How often a worker's engine has failed in a row; a number that grows is a crash loop.",
}
SLOTS = {
    "graycat_engine_slots": "Tasks that a worker's engine works on at once; told by the worker of what needs a slot.",
    "graycat_engine_slots_busy": "Tasks that a worker has in its engine's slots.",
}
GPUS = {
    "graycat_gpu_utilization_ratio": "Utilisation of a GPU, 0 to 1.",
    "graycat_gpu_memory_used_bytes": "Memory of a GPU that is in use.",
    "graycat_gpu_memory_total_bytes": "Memory of a GPU.",
    "graycat_gpu_temperature_celsius": "Temperature of a GPU.",
}
BROKER = {
    "graycat_broker_events_bytes": "Memory that the tasks' event streams take in the broker; counted bit by bit.",
    "graycat_broker_artifacts_bytes": "Memory that finished images take in the broker; counted bit by bit.",
    "graycat_webhook_deliveries_pending": "Deliveries to webhooks that are not settled.",
}
BROKER_UP = ("graycat_broker_up", "1 where the broker answered this scrape.")
ENGINE_STATE = ("graycat_engine_state", "1 for the state that a worker's engine is in, 0 for the others.")


BATCHES = ("graycat_batches", "Image batches by state: those that have not ended, and the newest hundred.")
BATCH_ITEMS = ("graycat_batch_items", "Items of the image batches that have not ended, by state.")
BATCH_LATE = (
    "graycat_batch_late",
    "Image batches, not paused, that are past their deadline or will be by their estimate.",
)


class FleetGauges:
    """A collector that looks at the broker once a scrape; while that is away it says so and no more."""

    def __init__(self, look: Callable[[], Snapshot]) -> None:
        self._look = look

    def collect(self) -> Iterable[Metric]:
        """Yield the gauges."""
        try:
            look = self._look()
        except BrokerUnavailable:
            yield GaugeMetricFamily(*BROKER_UP, value=0)
            return
        yield GaugeMetricFamily(*BROKER_UP, value=1)
        yield from _of_queues(look)
        yield from _of_workers(look)
        yield from _of_gpus(look)
        values = (look.held.events, look.held.artifacts, look.deliveries)
        for (name, text), value in zip(BROKER.items(), values, strict=True):
            yield GaugeMetricFamily(name, text, value=value)
        yield from _of_batches(look.batches)


def _of_batches(look: BatchSnapshot) -> Iterable[Metric]:
    for (name, text), counts in ((BATCHES, look.states), (BATCH_ITEMS, look.items)):
        family = GaugeMetricFamily(name, text, labels=("state",))
        for state, count in counts.items():
            family.add_metric((state,), count)
        yield family
    yield GaugeMetricFamily(*BATCH_LATE, value=look.late)


def _of_queues(look: Snapshot) -> Iterable[Metric]:
    rows = [((name,), (q.depth, q.oldest_s, q.consumers, q.paused)) for name, q in look.queues.items()]
    yield from _families(QUEUES, ("queue",), rows)


def _of_workers(look: Snapshot) -> Iterable[Metric]:
    families = list(_families(WORKERS, ("worker",), [((w.name,), (1, w.consuming, w.paused)) for w in look.workers]))
    for name in look.missed:
        families[0].add_sample(families[0].name, {"worker": name}, 0)
    yield from families
    engines = [worker for worker in look.workers if worker.engine]
    yield from _families(ENGINES, ("worker",), [((w.name,), (w.failures,)) for w in engines])
    # The lane beside an engine would count its slots a second time.
    takers = [w for w in engines if set(w.queues) - QUICK_QUEUES]
    yield from _families(SLOTS, ("worker",), [((w.name,), (w.slots, w.busy)) for w in takers])
    states = GaugeMetricFamily(*ENGINE_STATE, labels=("worker", "engine", "state"))
    for worker in engines:
        for state in STATES:
            states.add_metric((worker.name, worker.engine, state), worker.engine_state == state)
    yield states


def _of_gpus(look: Snapshot) -> Iterable[Metric]:
    rows = []
    for worker in look.workers:
        if (seen := worker.gpu_state) is not None:
            values = (seen["utilization"] / 100, seen["memory_used"], seen["memory_total"], seen["temperature"])
            rows.append(((worker.name, str(worker.gpu)), values))
    yield from _families(GPUS, ("worker", "gpu"), rows)


def _families(
    texts: dict[str, str], labels: Sequence[str], rows: Sequence[tuple[Sequence[str], Sequence[float]]]
) -> Iterable[GaugeMetricFamily]:
    """Yield a family for each name; ``rows`` have the labels' values, and a value for each family."""
    for place, (name, text) in enumerate(texts.items()):
        family = GaugeMetricFamily(name, text, labels=labels)
        for values, numbers in rows:
            family.add_metric(values, float(numbers[place]))
        yield family
