from __future__ import annotations

from typing import Any

import pytest

from graycat.broker.client import connect
from graycat.queue.kinds import FIRE_SCHEDULES
from graycat.schedules.runner import ScheduleRunner
from graycat.settings import Settings
from graycat.tasks import schedules
from graycat.worker.runtime import process
from tests.support.helpers import Valkey


def test_the_task_fires_what_is_due(broker: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "schedule_runner", ScheduleRunner(broker.client, broker.settings))
    task: Any = schedules.fire_schedules
    task()
    assert task.name == FIRE_SCHEDULES.name == "control.fire_schedules"
    assert broker.client.exists("graycat:schedules:fired")
    # Celery's tools, which list what sends events, list what people ask for.
    assert task.send_events is False


def test_a_broker_that_is_away_is_left_to_the_next_tick(
    no_broker: Settings, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    monkeypatch.setattr(process, "schedule_runner", ScheduleRunner(connect(no_broker), no_broker))
    task: Any = schedules.fire_schedules
    task()
    assert "broker unavailable" in caplog.text
