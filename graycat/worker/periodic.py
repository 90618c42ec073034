"""A thread that does a worker's periodic duties beside its tasks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from celery.worker import state
from celery.worker.request import Request

from graycat.broker.client import broker_errors
from graycat.broker.protocol import Broker
from graycat.errors import BrokerUnavailable
from graycat.loops.threads import GuardedThread
from graycat.loops.unexpected import guarded
from graycat.queue.redelivery import unacked_keys

logger = logging.getLogger(__name__)


class Duty(NamedTuple):
    """A function to call every ``interval_s`` seconds."""

    interval_s: float
    function: Callable[[], object]


class PeriodicThread:
    """A thread that calls functions when they are due by the clock. A slow broker delays it, and nothing else."""

    def __init__(self, name: str, tick_s: float, duties: Sequence[Duty]) -> None:
        """``name``: one of ``graycat.loops.names.THREADS``. ``tick_s``: seconds between two checks for due calls."""
        self._name = name
        self._duties = duties
        self._tick_s = tick_s
        self._due_at = [0.0] * len(duties)
        self.loop = GuardedThread(name, self._run)

    def start(self) -> None:
        """Start the thread."""
        self.loop.start()

    def stop(self, timeout_s: float | None = None) -> None:
        """Stop the thread if it was started. Returns when it has ended, or after ``timeout_s``."""
        self.loop.request_stop()
        self.loop.join(timeout_s)

    def _run(self) -> None:
        self.loop.rest()
        while not self.loop.wait_for_stop(self._tick_s):
            for index, duty in enumerate(self._duties):
                now = time.monotonic()
                if now >= self._due_at[index]:
                    self._due_at[index] = now + duty.interval_s
                    self.loop.beat()
                    self._call(duty.function)
                    self.loop.rest()

    def _call(self, function: Callable[[], object]) -> None:
        # This thread renews leases: a defect in one duty must not end the others.
        with guarded(self._name):
            try:
                function()
            except BrokerUnavailable:
                logger.warning("broker unavailable", extra={"duty": function.__name__})


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
