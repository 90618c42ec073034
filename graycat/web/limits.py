"""What the current request's API token may still do: its limits, around the task that a view makes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flask import Response, g

from graycat.auth.limits import Holders, Limiter, least
from graycat.errors import BrokerUnavailable, QueueFull
from graycat.web.services import services


def _holders() -> Holders:
    token = g.get("token")
    return token.holders if token is not None else ()


@contextmanager
def admitted(task_id: str) -> Iterator[None]:
    """Count a task against the caller's limits while the block creates it; one that no queue took is not counted.

    Raises LimitExceeded, BrokerUnavailable. Without limits it asks nobody.
    """
    holders = _holders()
    if not any(limits.counted for _, limits in holders):
        yield
        return
    limiter: Limiter = services().limiter
    g.allowance = limiter.admit(task_id, holders)
    try:
        yield
    except QueueFull:
        with suppress(BrokerUnavailable):
            limiter.give_back(task_id, holders)
        raise


def most_tokens() -> int | None:
    """Return how many tokens one request of the caller may have generated; None: as many as the engine likes."""
    return least(_holders(), "max_tokens")


def token_max_pixels() -> int | None:
    """Return how many pixels one request of the caller may ask for; None: as many as any."""
    return least(_holders(), "max_pixels")


def tell(response: Response) -> Response:
    """Tell a caller whose requests are counted how many are left; an ``after_request``."""
    if (allowance := g.get("allowance")) is not None:
        response.headers.update(allowance.headers())
    return response
