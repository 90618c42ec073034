from __future__ import annotations

import pytest

from graycat.queue.topology import (
    QUEUES,
    WORKER_KINDS,
    engine_queues,
    model_queue,
    worker_kind_of,
    worker_queue,
)


def test_each_queue_is_taken_by_one_kind_of_worker() -> None:
    assert sorted(queue for kind in WORKER_KINDS.values() for queue in kind.queues) == sorted(QUEUES)


def test_interactive_queues_come_before_their_batches() -> None:
    assert QUEUES == ("llm", "llm.quick", "sd", "llm.batch", "sd.batch", "control")
    for kind in WORKER_KINDS.values():
        assert list(kind.queues) == sorted(kind.queues, key=lambda queue: ".batch" in queue)


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
    assert worker_kind_of(queue) == kind


def test_an_engine_has_queues_for_its_models_and_an_image_engine_one_of_its_own() -> None:
    assert engine_queues("llm.batch", ["a", "b"], "llm@box") == ["llm.batch:a", "llm.batch:b"]
    assert engine_queues("sd.batch", [], "sd@box") == ["sd.batch:@sd@box"]
    assert engine_queues("control", [], "control@box") == []
