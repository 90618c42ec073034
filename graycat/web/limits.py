"""Applies the limits of the current request's API token to the task that the request creates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flask import Response, g

from graycat.auth.limits import Holders, least
from graycat.errors import BrokerFull, BrokerUnavailable, QueueFull, StoredBytesExceeded
from graycat.queue.errors import IdempotencyConflict
from graycat.web.services import services


def _limit_holders() -> Holders:
    """Return the API tokens on whose account the request goes, with their limits."""
    token = g.get("token")
    if token is None:
        return ()
    holders: Holders = token.holders
    return holders


@contextmanager
def enforce_limits(task_id: str) -> Iterator[None]:
    """Count a task against the caller's limits while the block creates it. A task that no queue took is not counted.

    Raises LimitExceeded, BrokerUnavailable. A caller without counted limits costs no request to the broker.
    """
    holders = _limit_holders()
    if not any(limits.counted for _, limits in holders):
        yield
        return

    limiter = services().limiter
    g.allowance = limiter.admit(task_id, holders)
    try:
        yield
    except (QueueFull, StoredBytesExceeded, BrokerFull, IdempotencyConflict):
        with suppress(BrokerUnavailable):
            limiter.refund(task_id, holders)
        raise


def token_limit() -> int | None:
    """Return how many tokens one request of the caller may generate; None if there is no limit."""
    return least(_limit_holders(), "max_tokens")


def pixel_limit() -> int | None:
    """Return how many pixels one request of the caller may ask for; None if there is no limit."""
    return least(_limit_holders(), "max_pixels")


def add_limit_headers(response: Response) -> Response:
    """Add the RateLimit headers for a caller whose requests are counted; an ``after_request``."""
    allowance = g.get("allowance")
    if allowance is not None:
        response.headers.update(allowance.headers())
    return response
