"""Errors about workers and queues; ``graycat.errors`` shows their place in the tree."""

from __future__ import annotations

from collections.abc import Iterable

from graycat.errors import GraycatError, RequestError


class WorkerNotFound(RequestError):
    """Raised when no worker of this name has reported itself."""

    status, type = 404, "worker_not_found"

    def __init__(self) -> None:
        super().__init__("no worker has this name; GET /ready lists those that run")


class QueueNotFound(RequestError):
    """Raised when there is no queue of this name."""

    status, type = 404, "queue_not_found"

    def __init__(self, queues: Iterable[str]) -> None:
        super().__init__(f"there is no such queue; there are {', '.join(queues)}")


class WorkerRefused(RequestError):
    """Raised when a worker answers a command, and does not follow it."""

    status, type = 409, "worker_refused"


class WorkerSilent(GraycatError):
    """Raised when a worker does not answer a command in time."""

    status, type = 504, "worker_silent"

    def __init__(self) -> None:
        super().__init__("the worker does not answer; look at GET /status whether it has done it, and try again")
