"""Schedules on the shared broker, and a clock for them."""

from __future__ import annotations

from typing import Any

import pytest

from graycat.batches.records import BatchRecords
from graycat.schedules.definition import Schedule
from graycat.schedules.records import ScheduleRecords
from graycat.schedules.runner import ScheduleRunner
from tests.support.helpers import Valkey

#: A batch of one image.
SPEC = {"name": "portraits", "defaults": {"width": 64, "height": 64, "steps": 1}, "items": [{"prompt": "a tavern"}]}


@pytest.fixture
def schedules(broker: Valkey) -> ScheduleRecords:
    return ScheduleRecords(broker.client, broker.settings)


@pytest.fixture
def batches(broker: Valkey) -> BatchRecords:
    return BatchRecords(broker.client, broker.settings)


@pytest.fixture
def runner(broker: Valkey) -> ScheduleRunner:
    return ScheduleRunner(broker.client, broker.settings)


@pytest.fixture
def add(broker: Valkey, schedules: ScheduleRecords):
    """Return how to add a schedule; with a ``mark``, as if it had last been looked at then."""

    def added(name: str = "nightly", mark: int | None = None, owner: str = "tests", **fields: Any) -> Schedule:
        body = {"name": name, "cron": "0 1 * * *", "spec": SPEC} | fields
        schedule = Schedule.read(body, owner, broker.settings)
        schedules.put(schedule)
        if mark is not None:
            broker.client.hset(f"graycat:schedule:{owner}:{name}", "mark", mark)
        return schedule

    return added
