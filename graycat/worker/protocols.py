"""Celery's worker and consumer in types: as much of them as the bootsteps use.

Celery's own annotations leave most of these attributes out, or call them Any.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from graycat.celeryapp import GraycatCelery


class CeleryWorker(Protocol):
    """Celery's ``WorkController``, the parent of a worker's bootsteps."""

    @property
    def app(self) -> GraycatCelery: ...
    @property
    def hostname(self) -> str: ...
    @property
    def concurrency(self) -> int: ...
    @property
    def exitcode(self) -> int | None: ...


class TimerEntry(Protocol):
    """A call that a timer repeats."""

    def cancel(self) -> object: ...


class Timer(Protocol):
    """The timer of the consumer's main loop."""

    def call_repeatedly(
        self, interval_s: float, function: Callable[..., object], arguments: tuple[object, ...] = (), /
    ) -> TimerEntry: ...


class Pool(Protocol):
    """The worker's pool of threads. ``limit`` is how many tasks the consumer takes at once."""

    limit: int


class TaskConsumer(Protocol):
    """The kombu consumer of the task queues."""

    def consuming_from(self, queue: str, /) -> bool: ...


class CeleryConsumer(Protocol):
    """Celery's ``Consumer``, the parent of a consumer's bootsteps."""

    @property
    def app(self) -> GraycatCelery: ...
    @property
    def timer(self) -> Timer: ...
    @property
    def pool(self) -> Pool: ...
    @property
    def task_consumer(self) -> TaskConsumer: ...

    def add_task_queue(self, queue: str, /) -> object: ...
    def cancel_task_queue(self, queue: str, /) -> object: ...


class EventLoop(Protocol):
    """kombu's event loop."""

    def call_repeatedly(self, interval_s: float, function: Callable[[], object], /) -> object: ...
