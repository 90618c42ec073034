from __future__ import annotations

from graycat.queue.records import TaskRecords
from tests.support.helpers import claimed, started


def test_a_second_attempt_after_one_that_told_its_progress_is_no_resumption(records: TaskRecords) -> None:
    # What a client has seen of it is a bar, and that may begin anew.
    first = started(records, kind="sd.txt2img", mode="plain", queue="sd")
    records.report_progress(first, b'{"progress": 0.5}')
    records.release(first)
    assert not claimed(records, first.task_id).resumed
