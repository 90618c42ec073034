"""Errors about API tokens and their limits; ``graycat.errors`` shows where they stand in the tree."""

from __future__ import annotations

from graycat.errors import GraycatError, RequestError


class LimitExceeded(GraycatError):
    """Raised when an API token is over one of its limits; ``headers`` are the ``RateLimit-*`` ones."""

    status, type = 429, "limit_exceeded"

    def __init__(self, message: str, retry_after_s: int | None = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        # None where waiting does not help: the request itself asks for too much.
        self.retry_after_s = retry_after_s
        self.headers = headers or {}


class TokenNotFound(RequestError):
    """Raised when no minted API token has the name or prefix."""

    status, type = 404, "token_not_found"

    def __init__(self) -> None:
        super().__init__("no minted API token has this name or prefix")


class TokenNameTaken(RequestError):
    """Raised when an API token is to get the name of another: they would share their tasks."""

    status, type = 409, "token_name_taken"
