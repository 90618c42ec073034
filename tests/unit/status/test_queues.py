from __future__ import annotations

from graycat.queue.topology import CONTROL, LLM, QUEUES, SD_BATCH
from graycat.status.batches import BatchSnapshot
from graycat.status.queues import find_open_work, list_queues, summarize_queues

DEPTHS = {LLM: (2, 1.5), f"{LLM}:a model": (3, 4.0), SD_BATCH: (7, 0.5), CONTROL: (1, 0.0)}
BATCHES = BatchSnapshot(left=20, left_at_once=5)


def test_a_shared_queue_counts_those_of_its_models() -> None:
    queues = summarize_queues([], DEPTHS, {LLM}, overdue_s=9.0)
    assert set(queues) == set(QUEUES)
    assert (queues[LLM].depth, queues[LLM].oldest_s, queues[LLM].paused) == (5, 4.0, True)
    assert queues[CONTROL].oldest_s == 9.0


def test_queues_in_which_owners_have_turns_are_looked_at_without_a_worker() -> None:
    assert list_queues([], ["llm:a model"]) == sorted({*QUEUES, "llm:a model"})


def test_work_of_a_paused_queue_is_not_open() -> None:
    work = find_open_work(summarize_queues([], DEPTHS, {LLM}, overdue_s=0.0), [], BATCHES)
    assert LLM not in work.waiting
    assert (work.waiting[SD_BATCH], work.items, work.items_at_once) == (7, 20, 5)
    work = find_open_work(summarize_queues([], DEPTHS, {SD_BATCH}, overdue_s=0.0), [], BATCHES)
    assert (work.waiting[LLM], work.items) == (5, 0)
