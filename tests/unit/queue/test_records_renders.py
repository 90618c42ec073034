"""What image tasks need of their records: progress, and the two ways to stop."""

from __future__ import annotations

import json

import pytest

from graycat.queue.models import Verdict
from graycat.queue.records import TaskRecords
from tests.support.helpers import Valkey, accepted, changed, claimed, eventually, kinds, started

HALF = json.dumps({"progress": 0.5}).encode()


def test_progress_is_an_event_and_in_the_record(records: TaskRecords) -> None:
    attempt = started(records)
    assert records.report_progress(attempt, HALF) is Verdict.GO_ON
    assert records.get(attempt.task_id)["progress"] == HALF.decode()
    assert kinds(records, attempt.task_id) == ["started", "progress"]


def test_only_the_newest_progress_is_in_the_record(records: TaskRecords) -> None:
    attempt = started(records)
    for data in (HALF, b'{"progress": 0.75}'):
        records.report_progress(attempt, data)
    assert records.get(attempt.task_id)["progress"] == '{"progress": 0.75}'


@pytest.mark.parametrize("how", [Verdict.CANCEL, Verdict.INTERRUPT])
def test_a_running_task_learns_how_it_is_to_stop(records: TaskRecords, how: Verdict) -> None:
    attempt = started(records)
    assert records.cancel(attempt.task_id, how) == ("running", "llm@here")
    assert records.report_progress(attempt, HALF) is how
    assert records.renew(attempt.task_id, attempt.number) is how
    assert records.publish(attempt, 1, [b"one more"]) is True


@pytest.mark.parametrize(
    ("first", "second"), [(Verdict.CANCEL, Verdict.INTERRUPT), (Verdict.INTERRUPT, Verdict.CANCEL)]
)
def test_the_first_wish_stands(records: TaskRecords, first: Verdict, second: Verdict) -> None:
    attempt = started(records)
    for how in (first, second):
        records.cancel(attempt.task_id, how)
    assert records.renew(attempt.task_id, attempt.number) is first


def test_an_interrupt_leaves_alone_what_only_waits(records: TaskRecords) -> None:
    task_id = accepted(records)
    assert records.cancel(task_id, Verdict.INTERRUPT) == ("queued", "")
    assert records.get(task_id)["state"] == "queued"
    assert records.renew(task_id, claimed(records, task_id).number) is Verdict.GO_ON


def test_an_interrupted_task_that_was_handed_back_is_not_run_again(records: TaskRecords) -> None:
    attempt = started(records)
    records.cancel(attempt.task_id, Verdict.INTERRUPT)
    records.release(attempt)
    assert records.claim(attempt.task_id, "sd@there") == "cancelled"


def test_an_interrupted_task_ends_with_its_part_of_an_answer(records: TaskRecords) -> None:
    attempt = started(records)
    assert records.finish_cancelled(attempt, b'{"images": []}')
    (*_, last) = records.events(attempt.task_id)
    assert (last.kind, last.answer()) == ("cancelled", (200, b'{"images": []}'))
    assert records.get(attempt.task_id)["status"] == "499"


def test_progress_is_no_part_of_an_answer_so_a_task_that_told_some_may_be_run_again(broker: Valkey) -> None:
    records = TaskRecords(broker.client, changed(broker.settings, lease_s=0.02))
    attempt = started(records)
    records.report_progress(attempt, HALF)
    second = eventually(lambda: reply if not isinstance(reply := records.claim(attempt.task_id, "b"), str) else None)
    assert second is not None
    assert (second.number, second.resumed) == (2, False)
    records.publish(second, 1, [b"data: Hel\n\n"])
    records.release(second)
    assert claimed(records, attempt.task_id).resumed


def test_the_next_attempt_forgets_how_far_the_last_one_was(records: TaskRecords) -> None:
    attempt = started(records)
    records.report_progress(attempt, HALF)
    records.release(attempt)
    claimed(records, attempt.task_id)
    assert "progress" not in records.get(attempt.task_id)
