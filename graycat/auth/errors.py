"""Errors about API tokens and their limits; ``graycat.errors`` shows their place in the tree of errors."""

from __future__ import annotations

from graycat.errors import RequestError, Unauthorized


class InvalidToken(Unauthorized):
    """Base of the errors for a token that was sent and may not call: ``invalid_token`` in RFC 6750."""


class TokenUnknown(InvalidToken):
    """Raised when nobody has the API token that a request sends."""

    type = "token_unknown"

    def __init__(self) -> None:
        super().__init__(
            "no API token here has this secret; look whether all of it was sent, as 'Authorization: Bearer TOKEN'"
        )


class TokenRevoked(InvalidToken):
    """Raised when the API token of a request, or the one with which it was made, was revoked or replaced."""

    type = "token_revoked"


class TokenExpired(InvalidToken):
    """Raised when the API token of a request has come to the end of its lifetime."""

    type = "token_expired"

    def __init__(self, subject: str = "this API token") -> None:
        super().__init__(f"{subject} has expired; get a new one")


class ConflictingCredentials(RequestError):
    """Raised when one request sends two credentials that differ: ``invalid_request`` in RFC 6750."""

    type = "conflicting_credentials"

    def __init__(self) -> None:
        super().__init__("the request sends two different API tokens, in 'Authorization' and in 'X-Api-Key'; send one")


class TokenNotFound(RequestError):
    """Raised when no minted API token has the name or prefix."""

    status, type = 404, "token_not_found"

    def __init__(self) -> None:
        super().__init__("no minted API token has this name or prefix")


class TokenNameTaken(RequestError):
    """Raised if another API token has the name already: the two would share their tasks."""

    status, type = 409, "token_name_taken"


class RotationUnderWay(RequestError):
    """Raised if a token has two live secrets already: a third one would shut out who has the first."""

    status, type = 409, "rotation_under_way"

    def __init__(self, left_s: int) -> None:
        super().__init__(
            f"this API token has two live secrets for {left_s} s more; wait, or rotate without an overlap to end both"
        )
