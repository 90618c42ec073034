"""Errors about webhooks; ``graycat.errors`` shows the whole tree."""

from __future__ import annotations

from graycat.errors import RequestError


class InvalidWebhook(RequestError):
    """Raised when a task's webhook cannot be used; its address need not answer for that."""

    type = "invalid_webhook"
