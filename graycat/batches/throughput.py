"""How fast images are made: moving averages of what batches have measured, and what they mean for the next one."""

from __future__ import annotations

from graycat.broker.client import broker_errors
from graycat.broker.keys import BATCH_THROUGHPUT
from graycat.broker.protocol import Broker

#: The weight of the newest image in an average.
WEIGHT = 0.1
ALL = "sd"


class ThroughputStats:
    """Milliseconds a megapixel-step, over all workers, by kind, and by kind and worker. Raises BrokerUnavailable."""

    def __init__(self, client: Broker) -> None:
        self._client = client

    def learn(self, kind: str, worker: str, work: float, took_ms: float) -> None:
        """Learn from an image of so many megapixel-steps. Called by one process at a time."""
        if took_ms <= 0:
            return
        names = (ALL, kind, f"{kind}@{worker}")
        with broker_errors():
            known = self._client.hmget(BATCH_THROUGHPUT, names)
            sample = took_ms / work
            means = [sample if old is None else float(old) * (1 - WEIGHT) + sample * WEIGHT for old in known]
            self._client.hset(BATCH_THROUGHPUT, mapping=dict(zip(names, means, strict=True)))

    def gpu_s(self, work: float) -> float | None:
        """Return the seconds of one GPU that work would take; None where nothing was measured yet."""
        with broker_errors():
            mean = self._client.hget(BATCH_THROUGHPUT, ALL)
        return round(float(mean) * work / 1000, 1) if mean is not None else None

    def note_engines(self, count: int) -> None:
        """Note how many engines take batch work now."""
        with broker_errors():
            self._client.hset(BATCH_THROUGHPUT, "engines", count)

    def eta_s(self, work: float) -> float | None:
        """Return the seconds until work is done by the engines that take it now; None where nobody can tell."""
        with broker_errors():
            mean, engines = self._client.hmget(BATCH_THROUGHPUT, (ALL, "engines"))
        if mean is None or engines is None or int(engines) == 0:
            return None
        return round(float(mean) * work / 1000 / int(engines), 1)
