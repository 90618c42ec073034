"""Moving averages of how fast engines make images, and the estimates that follow from them."""

from __future__ import annotations

import math

from graycat.broker.client import broker_errors
from graycat.broker.keys import BATCH_THROUGHPUT
from graycat.broker.protocol import Broker

#: The weight of the newest image in an average.
WEIGHT = 0.1
#: The field of the average over all kinds and workers.
ALL = "sd"


class ThroughputStats:
    """Milliseconds a megapixel-step: averaged over all workers, by kind, and by kind and worker.

    Every method raises BrokerUnavailable.
    """

    def __init__(self, client: Broker) -> None:
        self._client = client

    def record(self, kind: str, worker: str, work: float, took_ms: float) -> None:
        """Add an image of ``work`` megapixel-steps to the averages. Only one process may call this at a time."""
        if took_ms <= 0:
            return
        fields = (ALL, kind, f"{kind}@{worker}")
        sample = took_ms / work
        means = {}
        with broker_errors():
            for field, stored in zip(fields, self._client.hmget(BATCH_THROUGHPUT, fields), strict=True):
                old = _parse_number(stored)
                if old is None:
                    means[field] = sample
                else:
                    means[field] = old * (1 - WEIGHT) + sample * WEIGHT
            self._client.hset(BATCH_THROUGHPUT, mapping=means)

    def set_engine_count(self, count: int) -> None:
        """Store how many engines take batch work now."""
        with broker_errors():
            self._client.hset(BATCH_THROUGHPUT, "engines", count)

    def estimate_gpu_s(self, work: float) -> float | None:
        """Return how many seconds one GPU needs for some work; None if nothing was measured yet."""
        with broker_errors():
            mean = _parse_number(self._client.hget(BATCH_THROUGHPUT, ALL))
        if mean is None:
            return None
        return round(mean * work / 1000, 1)

    def read(self) -> tuple[float | None, int]:
        """Return the milliseconds of a megapixel-step, None if none was measured; and how many engines take batches."""
        with broker_errors():
            stored = self._client.hmget(BATCH_THROUGHPUT, (ALL, "engines"))
        mean, engines = map(_parse_number, stored)
        return mean, int(engines or 0)

    def estimate_eta_s(self, work: float) -> float | None:
        """Return in how many seconds the engines that take batch work now finish some work; None if unknown."""
        mean, engines = self.read()
        if mean is None or not engines:
            return None
        return round(mean * work / 1000 / engines, 1)


def _parse_number(stored: bytes | None) -> float | None:
    """Return a stored number; None if there is none, or it is damaged: an estimate is worth no error."""
    try:
        number = float(stored or b"")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
