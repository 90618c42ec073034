"""Errors about a task that a caller asks for by its id; ``graycat.errors`` shows their place in the tree of errors."""

from __future__ import annotations

from graycat.errors import RequestError


class TaskNotFound(RequestError):
    """Raised when the caller has no task with the id, or its record is gone."""

    status, type = 404, "task_not_found"

    def __init__(self) -> None:
        super().__init__("you have no task with this id; records of finished tasks are kept for a while only")


class TaskGone(RequestError):
    """Raised when the caller's task is over and its record forgotten."""

    status, type = 410, "task_gone"

    def __init__(self) -> None:
        super().__init__("this task is over and its result is no longer kept; submit it again if you need it")


class IdempotencyConflict(RequestError):
    """Raised if an id or an ``Idempotency-Key`` was used for another request before."""

    status, type = 409, "idempotency_conflict"

    def __init__(self) -> None:
        super().__init__("this id or Idempotency-Key belongs to a task with another content; use a new one")


class NotRetryable(RequestError):
    """Raised if a task cannot be retried: it has not failed, or its input is no longer kept."""

    status, type = 409, "not_retryable"

    def __init__(self, state: str) -> None:
        super().__init__(
            "only what failed, was cancelled or expired is tried again, if its input was small enough to be kept; "
            f"this one is {state}: submit it anew"
        )
