"""Errors of the client about an operator's commands; ``graycat.client.errors`` has their bases."""

from __future__ import annotations

from graycat.client.errors import RequestError, ServerError


class WorkerNotFound(RequestError):
    """Raised when no worker of this name has reported itself."""

    type = "worker_not_found"


class QueueNotFound(RequestError):
    """Raised when there is no queue of this name."""

    type = "queue_not_found"


class WorkerRefused(RequestError):
    """Raised when a worker answers a command, and does not follow it."""

    type = "worker_refused"


class WorkerSilent(ServerError):
    """Raised when a worker does not answer a command in time; it may follow it all the same."""

    type = "worker_silent"
