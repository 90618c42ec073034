"""A thread that does a worker's periodic duties beside its tasks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from celery.worker import state
from celery.worker.request import Request

from graycat.broker.client import broker_errors
from graycat.broker.protocol import Broker
from graycat.errors import BrokerUnavailable
from graycat.queue.redelivery import unacked_keys

logger = logging.getLogger(__name__)


class Duty(NamedTuple):
    """A function to call every ``interval_s`` seconds."""

    interval_s: float
    function: Callable[[], object]


class PeriodicThread:
    """A thread that calls functions when they are due by the clock. A slow broker delays it, and nothing else."""

    def __init__(self, name: str, tick_s: float, duties: Sequence[Duty]) -> None:
        """``tick_s``: seconds between two checks for due calls."""
        self._duties = duties
        self._tick_s = tick_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float | None = None) -> None:
        """Stop the thread if it was started. Returns when it has ended, or after ``timeout_s``."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        due_at = [0.0] * len(self._duties)
        while not self._stopping.wait(self._tick_s):
            for index, duty in enumerate(self._duties):
                now = time.monotonic()
                if now >= due_at[index]:
                    due_at[index] = now + duty.interval_s
                    _call(duty.function)


def _call(function: Callable[[], object]) -> None:
    try:
        function()
    except BrokerUnavailable:
        logger.warning("broker unavailable", extra={"duty": function.__name__})
    except Exception:
        # This thread renews leases: a defect in one duty must not end the others.
        logger.exception("duty failed", extra={"duty": function.__name__})


def renew_messages(client: Broker, kind: str) -> None:
    """Keep the messages that this worker holds from being delivered to others. Raises BrokerUnavailable.

    ``kind``: the kind of this worker.
    """
    now = time.time()
    delivered_at = {}
    for request in _copy(state.reserved_requests):
        if not request.acknowledged:
            delivered_at[request.message.delivery_tag] = now
    if delivered_at:
        index = unacked_keys(kind)["unacked_index_key"]
        # XX: do not bring a message back that was acknowledged a moment ago.
        with broker_errors():
            client.zadd(index, delivered_at, xx=True)


def _copy(requests: Iterable[Request]) -> list[Request]:
    """Return Celery's set of requests as a list. Other threads change the set while it is read."""
    while True:
        try:
            return list(requests)
        except RuntimeError:
            continue
