"""Duties of a worker: done by one thread beside its tasks, each when it is due."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from celery.worker import state

from graycat.broker.client import broker_errors
from graycat.broker.protocol import Broker
from graycat.errors import BrokerUnavailable
from graycat.queue import topology

logger = logging.getLogger(__name__)


class PeriodicThread:
    """A thread. What it does is due by the clock, so a slow broker delays it and nothing else."""

    def __init__(self, name: str, tick_s: float, duties: Sequence[tuple[float, Callable[[], Any]]]) -> None:
        """``duties``: each with the seconds between two times; ``tick_s``: those between two looks at what is due."""
        self._duties = duties
        self._tick_s = tick_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, patience_s: float | None = None) -> None:
        """Stop the thread, if it was started; returns when it has ended, or when ``patience_s`` have passed."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(patience_s)

    def _run(self) -> None:
        due = [0.0] * len(self._duties)
        while not self._stopping.wait(self._tick_s):
            for place, (every_s, duty) in enumerate(self._duties):
                if time.monotonic() < due[place]:
                    continue
                due[place] = time.monotonic() + every_s
                try:
                    duty()
                except BrokerUnavailable:
                    logger.warning("broker unavailable", extra={"duty": duty.__name__})
                except Exception:
                    # Leases are renewed by this thread: a defect in one duty must not end the others.
                    logger.exception("duty failed", extra={"duty": duty.__name__})


def renew_messages(client: Broker, kind: str) -> None:
    """Keep the messages that this worker, of a kind, holds from being delivered to others. Raises BrokerUnavailable."""
    reserved = _snapshot(state.reserved_requests)
    tags = [request.message.delivery_tag for request in reserved if not request.acknowledged]
    if tags:
        # Delivery tags by the time of their delivery.
        index = topology.unacked(kind)["unacked_index_key"]
        # XX: never bring a message back that was acknowledged a moment ago.
        with broker_errors():
            client.zadd(index, dict.fromkeys(tags, time.time()), xx=True)


def _snapshot(requests: Any) -> list[Any]:
    """Return Celery's set of requests as a list; it changes in other threads while it is read."""
    while True:
        try:
            return list(requests)
        except RuntimeError:
            continue
