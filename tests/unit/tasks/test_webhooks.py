from __future__ import annotations

from typing import Any

import pytest

from graycat.broker.client import connect
from graycat.queue.records import TaskRecords
from graycat.settings import Settings
from graycat.tasks import webhooks
from graycat.webhooks.deliveries import Deliveries
from graycat.webhooks.sender import WebhookSender
from graycat.worker.runtime import process
from tests.support.helpers import Valkey, started
from tests.support.hooks import look, webhook_client, webhook_for
from tests.support.servers import http_server, reply
from tests.support.workers import celery_app


def test_celery_s_task_delivers(broker: Valkey, records: TaskRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = WebhookSender(Deliveries(broker.client), webhook_client(), broker.settings)
    monkeypatch.setattr(process, "webhook_sender", sender)
    with http_server({"POST /hook": reply(200, {})}) as seen:
        attempt = started(records, webhook=webhook_for(seen))
        records.succeed(attempt, 200, b"")
        look(records)
        celery_app(broker.settings.home).tasks["control.deliver"].run(f"{attempt.task_id} succeeded")
        assert len(seen.requests) == 1


def test_while_the_broker_is_away_a_delivery_waits(
    no_broker: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sender = WebhookSender(Deliveries(connect(no_broker)), webhook_client(), no_broker)
    monkeypatch.setattr(process, "webhook_sender", sender)
    task: Any = webhooks.deliver
    task.run("abc succeeded")
    # Hubs of other tests' applications may miss their broker, too.
    assert [r.getMessage() for r in caplog.records if r.name == webhooks.logger.name] == ["broker unavailable"]


def test_a_worker_of_another_kind_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "webhook_sender", None)
    task: Any = webhooks.deliver
    with pytest.raises(RuntimeError, match="this worker has no webhook sender"):
        task.run("abc succeeded")
