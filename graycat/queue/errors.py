"""Errors about tasks, most about one that a caller asks for by its id; ``graycat.errors`` shows their place."""

from __future__ import annotations

from graycat.errors import GraycatError, RequestError


class TaskNotFound(RequestError):
    """Raised when the caller has no task with the id, or its record is gone."""

    status, type = 404, "task_not_found"

    def __init__(
        self, message: str = "you have no task with this id; records of finished tasks are kept for a while only"
    ) -> None:
        super().__init__(message)


class ImageNotFound(TaskNotFound):
    """Raised when the caller's task has no image of the number, or it is no longer kept."""

    def __init__(self, number: int) -> None:
        super().__init__(
            f"this task has no image {number} now; GET /tasks/{{id}} says how it stands, and lists its images"
        )


class PreviewNotFound(TaskNotFound):
    """Raised when the caller's task has no preview."""

    def __init__(self) -> None:
        super().__init__(
            "this task has no preview now; there is one while it renders, if its engine makes some: "
            "GET /tasks/{id} says how it stands"
        )


class TaskGone(RequestError):
    """Raised when the caller's task is over and its record forgotten."""

    status, type = 410, "task_gone"

    def __init__(self) -> None:
        super().__init__("this task is over and its result is no longer kept; submit it again if you need it")


class EventsGone(RequestError):
    """Raised if events that a reader has not got are no longer kept.

    ``kept_after``: the position before the first event that is kept; '' if none is.
    """

    status, type = 410, "events_gone"

    def __init__(self, kept_after: str = "") -> None:
        message = "the events that you ask for are no longer kept; GET /tasks/{id} says how the task has ended"
        if kept_after:
            message = (
                f"some of the events that you ask for are no longer kept; the others come with ?after={kept_after}"
            )
        super().__init__(message)


class EventUnknown(RequestError):
    """Raised if a reader wants to go on behind an event that its task does not have."""

    type = "event_unknown"

    def __init__(self) -> None:
        super().__init__(
            "this task has no event with that id; without 'Last-Event-ID' its events come from the first on"
        )


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


class BrokerDataLost(GraycatError):
    """Raised in a request whose task is gone from the broker, which has lost its data."""

    status, type, retry_after_s = 503, "broker_data_lost", 2

    def __init__(self) -> None:
        super().__init__("the broker has lost this task with its data; send the request again")


class KindUnknown(GraycatError):
    """Raised when no worker that took a task knows its kind."""

    status, type = 501, "kind_unknown"

    def __init__(self) -> None:
        super().__init__("the workers do not know this kind of task: they are of an older release than this server")
