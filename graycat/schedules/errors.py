"""Errors about schedules; ``graycat.errors`` shows their place in the tree."""

from __future__ import annotations

from graycat.errors import RequestError


class InvalidSchedule(RequestError):
    """Raised when a schedule is invalid; the message names the field."""

    type = "invalid_schedule"


class ScheduleNotFound(RequestError):
    """Raised when the caller has no schedule with the name."""

    status, type = 404, "schedule_not_found"

    def __init__(self) -> None:
        super().__init__("you have no schedule with this name; GET /schedules lists your schedules")


class ScheduleExists(RequestError):
    """Raised when another schedule has the name, or when only the server's file may change the schedule."""

    status, type = 409, "schedule_exists"


class TooManySchedules(RequestError):
    """Raised when an API token has reached its limit of schedules."""

    status, type = 429, "too_many_schedules"

    def __init__(self, limit: int) -> None:
        super().__init__(f"you have {limit} schedules, and that is the limit; remove one first")
