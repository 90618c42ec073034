"""Errors about API tokens and their limits; ``graycat.errors`` shows where they stand in the tree."""

from __future__ import annotations

from graycat.errors import RequestError


class TokenNotFound(RequestError):
    """Raised when no minted API token has the name or prefix."""

    status, type = 404, "token_not_found"

    def __init__(self) -> None:
        super().__init__("no minted API token has this name or prefix")


class TokenNameTaken(RequestError):
    """Raised when an API token is to get the name of another: they would share their tasks."""

    status, type = 409, "token_name_taken"
