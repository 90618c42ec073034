"""The webhook sender: sends an event to its receiver, and decides what follows if that fails."""

from __future__ import annotations

import logging
import random
import time

from graycat.metrics import worker
from graycat.settings import Settings
from graycat.webhooks import webhook
from graycat.webhooks.deliveries import Deliveries, Delivery, DeliveryAttempt
from graycat.webhooks.http import PublicHttpClient, Unreachable

logger = logging.getLogger(__name__)

#: Seconds from a failed attempt to the next one. The last of them repeats.
BACKOFF_S = (5, 30, 120, 600, 1800, 3600, 7200, 14400)
#: Each pause is longer or shorter by up to this share, so that a receiver that comes back does not get all at once.
JITTER = 0.1
#: An event of this age is not sent any more.
GIVE_UP_AFTER_S = 24 * 3600
#: The status with which a receiver says that it is gone for good.
GONE = 410


class WebhookSender:
    """Sends deliveries. Any thread may use it."""

    def __init__(self, deliveries: Deliveries, http: PublicHttpClient, settings: Settings) -> None:
        self._deliveries = deliveries
        self._http = http
        self._settings = settings

    def deliver(self, task_id: str, event: str, now_ms: int | None = None) -> None:
        """Attempt a delivery once, unless another attempt has it. ``now_ms``: the broker's time."""
        started_at = time.monotonic()
        if now_ms is None:
            now_ms = self._deliveries.now_ms()
        delivery = self._deliveries.begin(task_id, event, now_ms)
        if delivery is None:
            logger.info("delivery dropped", extra={"task_id": task_id, "event": event})
            return

        status, error = self._send(delivery, now_ms)
        took_ms = round((time.monotonic() - started_at) * 1000)
        attempt = decide_next(delivery, now_ms + took_ms, status, error)
        state = attempt.state
        if not self._deliveries.settle(delivery, attempt):
            state = "stale"
        worker.DELIVERIES.labels(state).inc()
        extra = {
            "task_id": task_id,
            "event": event,
            # Only the host of the address: a path may be a secret.
            "host": delivery.webhook.target.host,
            "status": error if status is None else status,
            "attempt": delivery.attempt,
            "state": state,
            "ms": took_ms,
        }
        logger.info("delivery tried", extra=extra)

    def _send(self, delivery: Delivery, at_ms: int) -> tuple[int | None, str | None]:
        """Return the status that the receiver replies with, or the reason why there is none."""
        message_id = webhook.message_id(delivery.task_id, delivery.event)
        body = webhook.build_payload(delivery.task_id, delivery.event, delivery.fields)
        secret = delivery.webhook.secret
        if not secret:
            secret = webhook.owner_secret(self._settings, delivery.owner)
        headers = {"Content-Type": "application/json", "User-Agent": "graycat"}
        headers.update(webhook.sign(message_id, at_ms // 1000, body, secret))
        try:
            return self._http.post(delivery.webhook.target, headers, body), None
        except Unreachable as error:
            return None, error.reason


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
