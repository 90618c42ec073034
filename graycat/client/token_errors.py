"""Errors of the client about API tokens; ``graycat.client.errors`` has their bases."""

from __future__ import annotations

from graycat.client.errors import RequestError, Unauthorized


class TokenUnknown(Unauthorized):
    """Raised when the server knows no such API token."""

    type = "token_unknown"


class TokenRevoked(Unauthorized):
    """Raised when the API token was revoked or replaced, also while one of its requests was under way."""

    type = "token_revoked"


class TokenExpired(Unauthorized):
    """Raised when the API token has expired, also while one of its requests was under way."""

    type = "token_expired"


class ConflictingCredentials(RequestError):
    """Raised when a request sends two different API tokens."""

    type = "conflicting_credentials"


class RotationUnderWay(RequestError):
    """Raised when an API token has two live secrets already."""

    type = "rotation_under_way"
