"""Errors about schedules; ``graycat.errors`` shows where they stand in the tree."""

from __future__ import annotations

from graycat.errors import RequestError


class InvalidSchedule(RequestError):
    """Raised when a schedule cannot be used; the message names its field."""

    type = "invalid_schedule"


class ScheduleNotFound(RequestError):
    """Raised when the caller has no schedule of the name."""

    status, type = 404, "schedule_not_found"

    def __init__(self) -> None:
        super().__init__("you have no schedule of this name; GET /schedules lists those that you have")


class ScheduleExists(RequestError):
    """Raised when another schedule has the name, or when the schedule is one of the file's."""

    status, type = 409, "schedule_exists"


class TooManySchedules(RequestError):
    """Raised when an API token has as many schedules as it may."""

    status, type = 429, "too_many_schedules"

    def __init__(self, most: int) -> None:
        super().__init__(f"you have {most} schedules, and may have no more; remove one first")
