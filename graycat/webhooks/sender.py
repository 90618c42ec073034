"""The courier: tells a webhook's receiver of an event, and decides what a failure means."""

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

#: Seconds from a failed try to the next one; behind the last, every four hours.
BACKOFF_S = (5, 30, 120, 600, 1800, 3600, 7200, 14400)
#: Each is longer or shorter by up to this share, so that receivers do not get everything at once when they come back.
JITTER = 0.1
#: Nothing is tried any more when its event is this old.
GIVE_UP_AFTER_S = 24 * 3600
#: The receiver says that there never will be anybody.
GONE = 410


class WebhookSender:
    """Sends deliveries; any thread may use it."""

    def __init__(self, deliveries: Deliveries, caller: PublicHttpClient, settings: Settings) -> None:
        self._deliveries = deliveries
        self._caller = caller
        self._settings = settings

    def deliver(self, task_id: str, event: str, now_ms: int | None = None) -> None:
        """Try a delivery once, where nobody else is at it; ``now_ms`` is the broker's time."""
        started = time.monotonic()
        begun_ms = self._deliveries.now_ms() if now_ms is None else now_ms
        delivery = self._deliveries.begin(task_id, event, begun_ms)
        if delivery is None:
            logger.info("delivery dropped", extra={"task_id": task_id, "event": event})
            return
        status, error = self._send(delivery, begun_ms)
        took_ms = round((time.monotonic() - started) * 1000)
        outcome = next_attempt(delivery, begun_ms + took_ms, status, error)
        ours = self._deliveries.settle(delivery, outcome)
        state = outcome.state if ours else "stale"
        worker.DELIVERIES.labels(state).inc()
        # The host and no more of the address: a path may be a secret.
        extra = {"task_id": task_id, "event": event, "host": delivery.webhook.target.host, "status": status or error}
        extra |= {"attempt": delivery.attempt, "state": state, "ms": took_ms}
        logger.info("delivery tried", extra=extra)

    def _send(self, delivery: Delivery, at_ms: int) -> tuple[int | None, str | None]:
        """Return the status that the receiver answers, or a word for why there is none."""
        message = webhook.message_id(delivery.task_id, delivery.event)
        body = webhook.payload(delivery.task_id, delivery.event, delivery.fields)
        secret = delivery.webhook.secret or webhook.owner_secret(self._settings, delivery.owner)
        headers = {"Content-Type": "application/json", "User-Agent": "graycat"}
        headers |= webhook.signed(message, at_ms // 1000, body, secret)
        try:
            return self._caller.post(delivery.webhook.target, headers, body), None
        except Unreachable as error:
            return None, error.reason


def next_attempt(delivery: Delivery, now_ms: int, status: int | None, error: str | None) -> DeliveryAttempt:
    """Return how an attempt went, and when the next one is due."""
    over = status is not None and (200 <= status < 300 or status == GONE)
    base_s = BACKOFF_S[min(delivery.attempt, len(BACKOFF_S)) - 1]
    next_ms = now_ms + round(base_s * 1000 * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311 (no secret)
    over = over or next_ms > delivery.event_ms + GIVE_UP_AFTER_S * 1000
    return DeliveryAttempt(now_ms, status, error, None if over else next_ms)
