from __future__ import annotations

import logging
from typing import Any

import kombu.exceptions
import pytest
import redis

from graycat.celeryapp import create_celery
from graycat.queue.control import broadcast_stop
from graycat.queue.kinds import SKIP
from graycat.queue.models import Verdict
from tests.support.helpers import Valkey


@pytest.mark.parametrize(
    ("how", "text"), [(Verdict.CANCEL, "cancel"), (Verdict.INTERRUPT, "interrupt"), (SKIP, "skip")]
)
def test_stop_is_sent_to_one_worker(broker: Valkey, monkeypatch, how: str, text: str) -> None:
    sent: list[Any] = []
    app = create_celery(broker.settings)
    monkeypatch.setattr(app.control, "broadcast", lambda *args, **options: sent.append((args, options)))
    broadcast_stop(app, "a-task", "llm@node", how)
    assert sent == [(("stop_task",), {"arguments": {"task_id": "a-task", "how": text}, "destination": ["llm@node"]})]


@pytest.mark.parametrize(
    "error",
    [kombu.exceptions.OperationalError("the broker is away"), redis.exceptions.NoPermissionError("NOPERM")],
    ids=["no broker", "no permission"],
)
def test_a_stop_that_cannot_be_sent_is_logged(broker: Valkey, monkeypatch, caplog, error: Exception) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    app = create_celery(broker.settings)
    monkeypatch.setattr(app.control, "broadcast", fail)
    with caplog.at_level(logging.WARNING):
        broadcast_stop(app, "a-task", "llm@node", Verdict.CANCEL)
    assert [vars(record)["task_id"] for record in caplog.records] == ["a-task"]
