"""Gauges out of a snapshot of the broker; only web processes export them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from graycat.errors import BrokerUnavailable
from graycat.queue.topology import QUICK_QUEUES
from graycat.status.batches import BatchSnapshot
from graycat.status.snapshot import Snapshot

#: The values of a metric's labels, and a value for each of several gauges.
Row = tuple[Sequence[str], Sequence[float]]

#: The states of an engine; that of a worker without an engine is ready.
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
    "graycat_worker_stuck_loops": "Loops of a worker that are stuck or gone.",
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
    "graycat_broker_memory_used_bytes": "Memory that the broker takes in all.",
    "graycat_broker_memory_max_bytes": "Memory that the broker may take (maxmemory); 0 where it has no limit.",
    "graycat_stored_bytes": "Bytes that inputs of tasks and batches hold in the broker, of GRAYCAT_STORED_BYTES.",
    "graycat_webhook_deliveries_pending": "Deliveries to webhooks that are not settled.",
}
PROCESSES = {
    "graycat_process_up": "1 for a process under graycat up that runs, 0 for one that has ended.",
    "graycat_process_restarts": "How often graycat up has started a process again.",
    "graycat_process_crash_loop": "1 for a process that ends again and again.",
}
SCALE = {
    "graycat_scale_hint": "Workers that a family should have now, within the bounds of the settings, held for a while.",
    "graycat_scale_need": "Workers that a family needs at this moment, without bounds.",
}
BEAT_UP = ("graycat_beat_up", "1 where a beat ticks; without one no schedule fires.")
SCHEDULES = ("graycat_schedules", "Schedules that the server has.")
BROKER_UP = ("graycat_broker_up", "1 where the broker answered this scrape.")
ENGINE_STATE = ("graycat_engine_state", "1 for the state that a worker's engine is in, 0 for the others.")


BATCHES = ("graycat_batches", "Image batches by state: those that have not ended, and the newest hundred.")
BATCH_ITEMS = ("graycat_batch_items", "Items of the image batches that have not ended, by state.")
BATCH_LATE = (
    "graycat_batch_late",
    "Image batches, not paused, that are past their deadline or will be by their estimate.",
)


class FleetGauges:
    """A collector that takes a snapshot at each scrape. If the broker is away, it exports that and no more."""

    def __init__(self, read_snapshot: Callable[[], Snapshot]) -> None:
        self._read_snapshot = read_snapshot

    def collect(self) -> Iterable[Metric]:
        """Yield the gauges."""
        try:
            snapshot = self._read_snapshot()
        except BrokerUnavailable:
            yield GaugeMetricFamily(*BROKER_UP, value=0)
            return
        yield GaugeMetricFamily(*BROKER_UP, value=1)
        yield from _queue_gauges(snapshot)
        yield from _scale_gauges(snapshot)
        yield from _worker_gauges(snapshot)
        yield from _gpu_gauges(snapshot)
        yield from _process_gauges(snapshot)
        held = snapshot.held
        values = (held.events, held.artifacts, held.used, held.most, held.stored, snapshot.deliveries)
        for (name, text), value in zip(BROKER.items(), values, strict=True):
            yield GaugeMetricFamily(name, text, value=value)
        yield from _batch_gauges(snapshot.batches)
        yield GaugeMetricFamily(*BEAT_UP, value=snapshot.beat)
        yield GaugeMetricFamily(*SCHEDULES, value=snapshot.schedules)


def _batch_gauges(batches: BatchSnapshot) -> Iterable[Metric]:
    for (name, text), counts in ((BATCHES, batches.states), (BATCH_ITEMS, batches.items)):
        family = GaugeMetricFamily(name, text, labels=("state",))
        for state, count in counts.items():
            family.add_metric((state,), count)
        yield family
    yield GaugeMetricFamily(*BATCH_LATE, value=batches.late)


def _queue_gauges(snapshot: Snapshot) -> Iterable[Metric]:
    rows: list[Row] = []
    for name, queue in snapshot.queues.items():
        rows.append(((name,), (queue.depth, queue.oldest_s, queue.consumers, queue.paused)))
    yield from _families(QUEUES, ("queue",), rows)


def _scale_gauges(snapshot: Snapshot) -> Iterable[Metric]:
    rows: list[Row] = [((family,), (scale.hint, scale.need)) for family, scale in snapshot.scale.items()]
    yield from _families(SCALE, ("family",), rows)


def _worker_gauges(snapshot: Snapshot) -> Iterable[Metric]:
    workers: list[Row] = []
    failures: list[Row] = []
    slots: list[Row] = []
    states = GaugeMetricFamily(*ENGINE_STATE, labels=("worker", "engine", "state"))
    for worker in snapshot.workers:
        labels = (worker.name,)
        workers.append((labels, (1, worker.consuming, worker.paused, len(worker.stuck))))
        if not worker.engine:
            continue
        failures.append((labels, (worker.failures,)))
        # The worker of the quick queue shares its engine's slots with another worker, which counts them.
        if not QUICK_QUEUES.issuperset(worker.queues):
            slots.append((labels, (worker.slots, worker.busy)))
        for state in STATES:
            states.add_metric((worker.name, worker.engine, state), worker.engine_state == state)

    up, *others = _families(WORKERS, ("worker",), workers)
    for name in snapshot.missed:
        up.add_sample(up.name, {"worker": name}, 0)
    yield up
    yield from others
    yield from _families(ENGINES, ("worker",), failures)
    yield from _families(SLOTS, ("worker",), slots)
    yield states


def _gpu_gauges(snapshot: Snapshot) -> Iterable[Metric]:
    rows: list[Row] = []
    for worker in snapshot.workers:
        gpu = worker.gpu_state
        if gpu is not None:
            values = (gpu["utilization"] / 100, gpu["memory_used"], gpu["memory_total"], gpu["temperature"])
            rows.append(((worker.name, str(worker.gpu)), values))
    yield from _families(GPUS, ("worker", "gpu"), rows)


def _process_gauges(snapshot: Snapshot) -> Iterable[Metric]:
    rows: list[Row] = []
    for machine, processes in snapshot.processes.items():
        for process in processes:
            values = (process.state == "running", process.restarts, process.state == "crash loop")
            rows.append(((machine, process.name), values))
    yield from _families(PROCESSES, ("machine", "process"), rows)


def _families(texts: dict[str, str], labels: Sequence[str], rows: Sequence[Row]) -> Iterable[GaugeMetricFamily]:
    """Yield a gauge for each name; every row has the values of the labels, and one value for each gauge."""
    for index, (name, text) in enumerate(texts.items()):
        family = GaugeMetricFamily(name, text, labels=labels)
        for label_values, values in rows:
            family.add_metric(label_values, float(values[index]))
        yield family
