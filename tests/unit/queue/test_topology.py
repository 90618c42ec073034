from __future__ import annotations

import pytest

from graycat.queue.topology import QUEUES, WORKERS, kind_of, model_queue, unacked, worker_queue


def test_each_queue_is_taken_by_one_kind_of_worker() -> None:
    assert sorted(queue for queues in WORKERS.values() for queue in queues) == sorted(QUEUES)


def test_interactive_queues_come_before_their_batches() -> None:
    for queues in WORKERS.values():
        assert list(queues) == sorted(queues, key=lambda queue: ".batch" in queue)


@pytest.mark.parametrize(
    ("queue", "kind"),
    [
        ("llm", "llm"),
        ("llm.batch", "llm"),
        ("llm.quick:a-model", "quick"),
        (model_queue("sd.batch", "a:model"), "sd"),
        (worker_queue("sd", "sd@box"), "sd"),
        ("control", "control"),
        ("llmx", ""),
        ("", ""),
    ],
)
def test_a_queue_tells_who_takes_it(queue: str, kind: str) -> None:
    assert kind_of(queue) == kind


def test_each_kind_of_worker_keeps_what_it_has_taken_by_itself() -> None:
    places = [unacked(kind)["unacked_key"] for kind in ("", *WORKERS)]
    assert len(set(places)) == len(places)
