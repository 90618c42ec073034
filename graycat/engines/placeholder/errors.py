"""Errors as clients see them. Any exception is answered; its class name is part of the body, hence these names."""

from __future__ import annotations

from typing import Any


class HTTPException(Exception):
    """Raised for what is refused on purpose. ``detail``: the text that clients see."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__("")
        self.status, self.detail = status, detail


class OutOfMemoryError(RuntimeError):
    """Raised for images that no GPU would hold."""


class ValidationError(ValueError):
    """Raised when a setting has a value of the wrong type."""


def error_body(error: Exception) -> tuple[dict[str, Any], int]:
    """Return body and status for an error; ``detail`` has the text of one on purpose, ``errors`` of any other."""
    detail, status = (error.detail, error.status) if isinstance(error, HTTPException) else ("", 500)
    return {"error": type(error).__name__, "detail": detail, "body": "", "errors": str(error)}, status
