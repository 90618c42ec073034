"""The dispatcher: puts deliveries that are due on the control queue, a few ahead of the threads that send them."""

from __future__ import annotations

from celery import Celery

from graycat.broker.client import broker_errors
from graycat.broker.protocol import Broker
from graycat.queue.kinds import DELIVER
from graycat.queue.messages import MessageFactory
from graycat.queue.topology import CONTROL
from graycat.webhooks.deliveries import Deliveries

#: Messages that may wait in the control queue; what is due beyond that waits among the due ones.
MAX_WAITING = 32
#: Most deliveries that one step looks at; some of them may be for receivers that have all they may have.
LOOK_AT = 200


class Dispatcher:
    """Enqueues deliveries. Any number of them may run: each delivery is enqueued by one."""

    def __init__(self, client: Broker, deliveries: Deliveries, app: Celery) -> None:
        self._client = client
        self._deliveries = deliveries
        self._messages = MessageFactory(app, (DELIVER,))

    def step(self, now_ms: int) -> int:
        """Enqueue what is due; return how many that were."""
        with broker_errors():
            room = MAX_WAITING - self._client.llen(CONTROL)
        enqueued = 0
        for member, places in self._deliveries.due(now_ms, LOOK_AT).items() if room > 0 else ():
            message = self._messages.make(DELIVER.name, member)
            enqueued += self._deliveries.enqueue(member, places, now_ms, CONTROL, message)
            if enqueued == room:
                break
        return enqueued
