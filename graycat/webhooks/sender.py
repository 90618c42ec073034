"""The webhook sender: sends an event to its receiver once. ``retries.py`` decides whether it is sent again."""

from __future__ import annotations

import logging
import time

from graycat.metrics import worker
from graycat.settings import Settings
from graycat.webhooks import webhook
from graycat.webhooks.deliveries import Deliveries, Delivery
from graycat.webhooks.http import PublicHttpClient, Unreachable
from graycat.webhooks.retries import decide_next

logger = logging.getLogger(__name__)


class WebhookSender:
    """Sends deliveries. Any thread may use it."""

    def __init__(self, deliveries: Deliveries, http: PublicHttpClient, settings: Settings) -> None:
        self._deliveries = deliveries
        self._http = http
        self._settings = settings

    def deliver(self, task_id: str, event: str, now_ms: int | None = None) -> None:
        """Attempt a delivery once, unless another attempt has it. ``now_ms``: the broker's time.

        One that cannot be used is set aside. Raises BrokerUnavailable.
        """
        with self._deliveries.guard("webhook sender", f"{task_id} {event}"):
            self._deliver(task_id, event, now_ms)

    def _deliver(self, task_id: str, event: str, now_ms: int | None) -> None:
        started_at = time.monotonic()
        if now_ms is None:
            now_ms = self._deliveries.now_ms()
        delivery = self._deliveries.begin(task_id, event, now_ms)
        if delivery is None:
            logger.info("delivery skipped", extra={"task_id": task_id, "event": event})
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

    def give_up(self, task_id: str, event: str) -> bool:
        """Send a pending delivery no more; return False if there is none."""
        return self._deliveries.give_up(task_id, event, self._deliveries.now_ms())

    def _send(self, delivery: Delivery, at_ms: int) -> tuple[int | None, str | None]:
        """Return the status that the receiver replies with, or the reason why there is none."""
        message_id = webhook.message_id(delivery.task_id, delivery.event)
        body = webhook.build_payload(delivery.task_id, delivery.event, delivery.fields, self._settings.public_base)
        secret = delivery.webhook.secret
        if not secret:
            secret = webhook.owner_secret(self._settings, delivery.owner)
        headers = {"Content-Type": "application/json", "User-Agent": "graycat"}
        headers.update(webhook.sign(message_id, at_ms // 1000, body, secret))
        try:
            return self._http.post(delivery.webhook.target, headers, body), None
        except Unreachable as error:
            return None, error.reason
