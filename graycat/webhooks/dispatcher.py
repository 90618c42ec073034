"""The dispatcher: puts due deliveries on the control queue, a few more than threads can send at once."""

from __future__ import annotations

from celery import Celery

from graycat.broker.client import broker_errors
from graycat.broker.protocol import Broker
from graycat.queue.kinds import DELIVER
from graycat.queue.messages import MessageFactory
from graycat.queue.topology import CONTROL
from graycat.webhooks.deliveries import Deliveries

#: The most messages in the control queue. Other due deliveries stay in the list.
MAX_QUEUED = 32
#: The most deliveries that one step looks at. Some of their receivers may have no free slot.
MAX_CHECKED = 200


class Dispatcher:
    """Enqueues deliveries. Any number of dispatchers may run: each delivery is enqueued by one of them."""

    def __init__(self, client: Broker, deliveries: Deliveries, app: Celery) -> None:
        self._client = client
        self._deliveries = deliveries
        self._messages = MessageFactory(app, (DELIVER,))

    def step(self, now_ms: int) -> int:
        """Enqueue due deliveries; return how many."""
        with broker_errors():
            room = MAX_QUEUED - self._client.llen(CONTROL)
        if room <= 0:
            return 0
        enqueued = 0
        for member, slots in self._deliveries.list_due(now_ms, MAX_CHECKED).items():
            with self._deliveries.guard("dispatcher", member):
                message = self._messages.make(DELIVER.name, member)
                if self._deliveries.enqueue(member, slots, now_ms, CONTROL, message):
                    enqueued += 1
            if enqueued == room:
                break
        return enqueued
