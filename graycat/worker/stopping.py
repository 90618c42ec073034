"""The end of a worker that was asked to stop: in time, whatever its parts still wait for.

Celery, kombu and redis-py wait for a broker that does not answer in many places, each for seconds, some again and
again, in the thread that would stop the worker. So another thread has the clock.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from celery import bootsteps, signals
from celery.worker import state

from graycat.engines.client import StopReason
from graycat.loops.unexpected import guarded
from graycat.worker.protocols import CeleryWorker
from graycat.worker.runtime import EngineRuntime, process

logger = logging.getLogger(__name__)

#: Seconds that a worker gets behind its last task, to write what has become of it and to stop its engine.
LAST_S = 6.0
#: Seconds between two looks whether tasks run.
LOOK_INTERVAL_S = 0.1
#: Seconds that the last line of the log may take: whoever reads the log may be stuck, too.
LOG_TIMEOUT_S = 1.0


def end_process(status: int) -> None:
    """End this process; its engine ends with it (``engines/process/shim.py``)."""
    words = "the worker did not stop in time, and is ended as it is"
    warning = threading.Thread(target=logger.warning, args=(words,), name="last warning", daemon=True)
    warning.start()
    warning.join(LOG_TIMEOUT_S)
    os._exit(status)


class StopDeadline:
    """Ends a process ``LAST_S`` after the last of its tasks, and that long after its grace period at the latest."""

    def __init__(self, grace_s: Callable[[], float], hand_back: Callable[[], None], end: Callable[[], None]) -> None:
        """``grace_s``: how long tasks may go on. ``hand_back``: called then if some still do. ``end``: ends it."""
        self._grace_s = grace_s
        self._hand_back = hand_back
        self._end = end
        # Its put() may be called by a handler of a signal that has interrupted another put().
        self._asked: SimpleQueue[None] = SimpleQueue()
        threading.Thread(target=self._run, name="stop deadline", daemon=True).start()

    def begin(self, **_: Any) -> None:
        """Start the clock; again and again is once (also a receiver of Celery's ``worker_shutting_down``)."""
        self._asked.put(None)

    def _run(self) -> None:
        self._asked.get()
        busy_until = asked_at = time.monotonic()
        is_handed_back = False
        while True:
            now = time.monotonic()
            if state.active_requests:
                busy_until = now
            # Read each time: a drain sets it just before it asks.
            grace_ends_at = asked_at + self._grace_s()
            if now >= min(busy_until, grace_ends_at) + LAST_S:
                return self._end()
            if now >= grace_ends_at and not is_handed_back:
                is_handed_back = True
                with guarded("tasks"):
                    self._hand_back()
            time.sleep(LOOK_INTERVAL_S)


def hand_back(runtime: EngineRuntime | None) -> None:
    """Hand back what runs, or end it if its answer has begun."""
    for running in runtime.running.all() if runtime is not None else ():
        running.call.stop(StopReason.SHUTDOWN)


class StopStep(bootsteps.StartStopStep):
    """Has a worker end in time, however it is asked to: by a signal, or by a command that sends one."""

    def start(self, worker: CeleryWorker) -> None:
        """Start the thread that waits for the request to stop."""
        settings = worker.app.settings

        def grace_s() -> float:
            return settings.stop_grace_s if process.engine is None else process.engine.grace_s

        def end() -> None:
            # As if it had stopped by itself: a supervisor starts a worker again that has failed.
            end_process(worker.exitcode or 0)

        self.deadline = StopDeadline(grace_s, lambda: hand_back(process.engine), end)
        signals.worker_shutting_down.connect(self.deadline.begin, weak=False)

    def close(self, _worker: CeleryWorker) -> None:
        """Start the clock at the latest when the worker begins to stop: it may have failed, and nobody has asked."""
        self.deadline.begin()
