"""Whether a webhook's delivery that failed is tried again, and when."""

from __future__ import annotations

import random

from graycat.webhooks.deliveries import Delivery, DeliveryAttempt

#: Seconds from a failed attempt to the next one. The last of them repeats.
BACKOFF_S = (5, 30, 120, 600, 1800, 3600, 7200, 14400)
#: Each pause is longer or shorter by up to this share, so that a receiver that comes back does not get all at once.
JITTER = 0.1
#: An event of this age is not sent any more.
GIVE_UP_AFTER_S = 24 * 3600
#: The status with which a receiver says that it is gone for good.
GONE = 410


def decide_next(delivery: Delivery, now_ms: int, status: int | None, error: str | None) -> DeliveryAttempt:
    """Return how an attempt ended, with the time of the next one if there is to be one."""
    next_ms = None
    if status is None or not (200 <= status < 300 or status == GONE):
        pause_s = BACKOFF_S[min(delivery.attempt, len(BACKOFF_S)) - 1]
        factor = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 (no secret)
        next_ms = now_ms + round(pause_s * 1000 * factor)
        if next_ms > delivery.event_ms + GIVE_UP_AFTER_S * 1000:
            next_ms = None
    return DeliveryAttempt(now_ms, status, error, next_ms)
