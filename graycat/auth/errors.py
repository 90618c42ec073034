"""Errors about API tokens and their limits; ``graycat.errors`` shows their place in the tree of errors."""

from __future__ import annotations

from graycat.errors import RequestError


class TokenNotFound(RequestError):
    """Raised when no minted API token has the name or prefix."""

    status, type = 404, "token_not_found"

    def __init__(self) -> None:
        super().__init__("no minted API token has this name or prefix")


class TokenNameTaken(RequestError):
    """Raised if another API token has the name already: the two would share their tasks."""

    status, type = 409, "token_name_taken"
