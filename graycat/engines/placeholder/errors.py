"""Errors as clients see them. Every exception becomes a reply that contains its class name: hence these names."""

from __future__ import annotations

from typing import Any


class HTTPException(Exception):
    """Raised to refuse a request on purpose. ``detail``: the text that clients see."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__("")
        self.status = status
        self.detail = detail


class OutOfMemoryError(RuntimeError):
    """Raised for images that no GPU could hold."""


class ValidationError(ValueError):
    """Raised if an option has a value of the wrong type."""


def error_body(error: Exception) -> tuple[dict[str, Any], int]:
    """Return body and status of the reply to an error.

    The text of an HTTPException is in ``detail``, that of any other error in ``errors``.
    """
    detail, status = "", 500
    if isinstance(error, HTTPException):
        detail, status = error.detail, error.status
    return {"error": type(error).__name__, "detail": detail, "body": "", "errors": str(error)}, status
