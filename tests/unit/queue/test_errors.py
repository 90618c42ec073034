from __future__ import annotations

from graycat.queue.errors import NotRetryable


def test_a_task_that_cannot_be_retried_tells_its_state() -> None:
    assert "running" in str(NotRetryable("running"))
