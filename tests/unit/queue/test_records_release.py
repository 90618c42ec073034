"""Who is charged when an attempt is handed back."""

from __future__ import annotations

import pytest

from graycat.errors import EngineKilled
from graycat.queue.models import ReleaseReason
from graycat.queue.records import MAX_DEATHS, MAX_DEATHS_ALONE, TaskRecords
from tests.support.helpers import accepted, claimed


def test_what_is_not_the_task_s_fault_is_not_charged(records: TaskRecords) -> None:
    task_id = accepted(records)
    for number in range(1, 20):
        attempt = claimed(records, task_id)
        assert (attempt.number, attempt.deaths) == (number, 0)
        assert records.release(attempt, ReleaseReason.FREE)


def test_what_may_be_its_fault_is_charged(records: TaskRecords) -> None:
    task_id = accepted(records)
    for _ in range(3):
        assert records.release(claimed(records, task_id))
    assert records.claim(task_id, "worker") == "lost"


def test_a_death_in_company_is_nobody_s_fault_yet_and_is_remembered(records: TaskRecords) -> None:
    task_id = accepted(records)
    for deaths in range(MAX_DEATHS - 1):
        attempt = claimed(records, task_id)
        assert attempt.deaths == deaths
        assert records.release(attempt, ReleaseReason.ENGINE_DIED)
    attempt = claimed(records, task_id)
    with pytest.raises(EngineKilled):
        records.release(attempt, ReleaseReason.ENGINE_DIED)
    # It is still ours, to be ended.
    assert records.fail(attempt, EngineKilled())


def test_a_second_death_alone_finds_the_culprit(records: TaskRecords) -> None:
    task_id = accepted(records)
    assert records.release(claimed(records, task_id), ReleaseReason.ENGINE_DIED)
    for _ in range(MAX_DEATHS_ALONE - 1):
        assert records.release(claimed(records, task_id), ReleaseReason.ENGINE_DIED_ALONE)
    with pytest.raises(EngineKilled):
        records.release(claimed(records, task_id), ReleaseReason.ENGINE_DIED_ALONE)
